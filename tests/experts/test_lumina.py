"""Experts of Lumina 2 in the host: they are learned, saved, loaded, sent prompts, and draw."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from anonymize_faces.experts.files import load_experts, save_experts
from anonymize_faces.experts.learning import ExpertLearning, ExpertsCallbacks
from anonymize_faces.experts.router import embedding_of
from anonymize_faces.experts.settings import ExpertsSettings
from anonymize_faces.prefix.errors import ExpertsError
from anonymize_faces.tests.support.breaking_off import BrokenOffError
from anonymize_faces.tests.support.tiny_checkpoints import TinyCheckpoint, tiny_lumina

PROMPTS = ("a red circle", "a blue boat", "a portrait of a person with red hair", "a person with glasses")
QUICK = {"experts": 2, "keep": 0.7, "pictures": 4, "steps": 2, "batch_size": 4, "rank": 2, "learning_rate": 0.003}


@pytest.fixture
def checkpoint(host_modules: None) -> TinyCheckpoint:
    return tiny_lumina()


def learning(checkpoint: TinyCheckpoint, callbacks: ExpertsCallbacks | None = None, **settings: Any) -> ExpertLearning:
    from anonymize_faces.engines.comfy.denoiser import ComfyDenoiser, Drawing
    from anonymize_faces.engines.comfy.expert_parts import prunable
    from anonymize_faces.engines.comfy.tuning import lora_of

    denoiser = ComfyDenoiser(checkpoint.model, checkpoint.clip, checkpoint.vae, (64, 64), Drawing(3, 2.0))
    chosen = ExpertsSettings(**(QUICK | settings))
    return ExpertLearning(prunable(denoiser, checkpoint.model), PROMPTS, chosen, lora_of, callbacks)


def said(checkpoint: TinyCheckpoint, prompt: str) -> Any:
    with torch.inference_mode():
        return checkpoint.clip.encode_from_tokens_scheduled(checkpoint.clip.tokenize(prompt))


def drawn(model: Any, conditioning: Any) -> torch.Tensor:
    import comfy.sample

    noise = torch.randn(1, 16, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        return comfy.sample.sample(
            model, noise, 2, 2.0, "euler", "simple", conditioning, conditioning, torch.zeros_like(noise),
            disable_pbar=True, seed=1,
        )  # fmt: skip


def test_experts_of_lumina_are_learned_saved_loaded_sent_prompts_and_draw(
    checkpoint: TinyCheckpoint, tmp_path: Path
) -> None:
    from anonymize_faces.engines.comfy.expert_parts import denoiser_fingerprint, expert_model
    from anonymize_faces.engines.pruning.parts import COMFYUI

    conditioning = {prompt: said(checkpoint, prompt) for prompt in PROMPTS}
    before = {prompt: drawn(checkpoint.model, entry) for prompt, entry in conditioning.items()}
    fingerprint = denoiser_fingerprint(checkpoint.model)
    learner = learning(checkpoint, tuning_steps=20)
    assert [part.name for part in learner.parts] == [f"layers.{number}" for number in range(4)]
    with torch.inference_mode():
        made = learner.learn()
    read = load_experts(save_experts(made, tmp_path / "experts.safetensors"))
    read.require_model(fingerprint, COMFYUI)
    assert len(read) == 2 and all(0 < read.share(number) <= 0.7 for number in range(2))
    assert all(after <= first for first, after in read.record.errors) and any(read.deltas)
    sent = learner.routed(2)[1]
    for number, group in enumerate(sent):
        for prompt in {learner.pictures.captions[picture] for picture in group}:
            entry = conditioning[prompt]
            assert read.chosen(embedding_of(entry[0][0])[None]) == number
            expert = expert_model(checkpoint.model, read.left_out(number), read.deltas[number])
            found = drawn(expert, entry)
            assert bool(found.isfinite().all()) and not torch.allclose(found, before[prompt], atol=1e-3)
            # What it learned takes part.
            untaught = drawn(expert_model(checkpoint.model, read.left_out(number), {}), entry)
            assert torch.equal(found, untaught) != bool(read.deltas[number])
    for prompt, entry in conditioning.items():
        assert torch.equal(drawn(checkpoint.model, entry), before[prompt])
    assert denoiser_fingerprint(checkpoint.model) == fingerprint


def test_cancel_within_any_stage_leaves_lumina_unaltered_and_the_next_run_starts_clean(
    checkpoint: TinyCheckpoint,
) -> None:
    from anonymize_faces.engines.comfy.expert_parts import denoiser_fingerprint

    entry, fingerprint = said(checkpoint, PROMPTS[0]), denoiser_fingerprint(checkpoint.model)
    before = drawn(checkpoint.model, entry)
    settings = {"experts": 1, "tuning_steps": 4}
    wanted = learning(checkpoint, **settings).learn()
    counted = {"of": 0}
    for stage in ("drawing", "gates", "tuning"):

        def cancel(done: int, of: int, stage: str = stage) -> None:
            counted["of"] = of
            if done == {"drawing": 4, "gates": 5, "tuning": of - 1}[stage]:
                raise BrokenOffError

        with pytest.raises(BrokenOffError):
            learning(checkpoint, ExpertsCallbacks(cancel), **settings).learn()
        assert torch.equal(drawn(checkpoint.model, entry), before), stage
        assert denoiser_fingerprint(checkpoint.model) == fingerprint
        assert not any("forward" in vars(module) for module in checkpoint.model.model.diffusion_model.modules())
    assert counted["of"] == 4 + 2 + 4
    again = learning(checkpoint, **settings).learn()
    assert again.record == wanted.record and torch.equal(again.kept, wanted.kept)
    assert all(torch.equal(weight, again.deltas[0][name]) for name, weight in wanted.deltas[0].items())


def test_a_lumina_without_too_many_layers_is_a_sentence(checkpoint: TinyCheckpoint) -> None:
    with pytest.raises(ExpertsError, match="keep more"):
        learning(checkpoint, keep=0.05).learn()
