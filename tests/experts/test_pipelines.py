"""Experts of a pipeline of diffusers: they are learned, saved, loaded, chosen by the prompt, and draw."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from anonymize_faces.engines.diffusers import protect_pipeline
from anonymize_faces.engines.diffusers.expert_parts import prunable
from anonymize_faces.engines.options import Drawing
from anonymize_faces.engines.pruning.units import LeftOut
from anonymize_faces.experts.files import load_experts, save_experts
from anonymize_faces.experts.learning import ExpertLearning, ExpertsCallbacks
from anonymize_faces.experts.pipelines import expert_pipeline, learned_experts
from anonymize_faces.experts.settings import BLOCKS, WIDTHS, ExpertsSettings
from anonymize_faces.experts.value import Experts
from anonymize_faces.prefix.errors import ExpertsError
from anonymize_faces.runs.digest import digest_of
from anonymize_faces.tests.support.breaking_off import BrokenOffError
from anonymize_faces.tests.support.experts import demo_experts
from anonymize_faces.tests.support.pipelines import DRAWN, prefix_for, tiny_pipeline

PROMPTS = ("a red circle", "a blue boat", "a portrait of a person with red hair", "a person with glasses")
SIZE, DRAWING = (64, 64), Drawing(2, 2.0)
QUICK = {
    "experts": 2,
    "keep": 0.8,
    "pictures": 4,
    "steps": 1,
    "tuning_steps": 0,
    "batch_size": 2,
    "rank": 2,
    "whole_share": 0.0,
}


def learned(pipeline: Any, **settings: Any) -> Experts:
    return learned_experts(pipeline, PROMPTS, ExpertsSettings(**(QUICK | settings)), SIZE, DRAWING)


def drawn(pipeline: Any, prompt: str) -> torch.Tensor:
    return pipeline(prompt, generator=torch.Generator().manual_seed(1), **DRAWN).images


@pytest.fixture(scope="module")
def experts() -> Experts:
    """Two experts of the tiny SD1, which learned nothing."""
    return learned(tiny_pipeline("sd1"))


@pytest.mark.parametrize(("family", "leave_out"), [("sd1", BLOCKS), ("sdxl", BLOCKS), ("sdxl", WIDTHS)])
def test_experts_are_learned_saved_loaded_and_draw(family: str, leave_out: str, tmp_path: Path) -> None:
    pipeline = tiny_pipeline(family)
    before, digest = [drawn(pipeline, prompt) for prompt in PROMPTS], digest_of(pipeline.unet)
    made = learned(pipeline, leave_out=leave_out)
    read = load_experts(save_experts(made, tmp_path / "experts.safetensors"))
    assert read.record.family == family and all(0 < read.share(number) <= 0.8 for number in range(len(read)))
    for number, prompt in enumerate(PROMPTS):
        assert not torch.allclose(drawn(expert_pipeline(pipeline, read, prompt), prompt), before[number])
    assert all(torch.equal(drawn(pipeline, prompt), old) for prompt, old in zip(PROMPTS, before, strict=True))
    assert digest_of(pipeline.unet) == digest


@pytest.mark.parametrize(("leave_out", "keep", "rate"), [(BLOCKS, 0.9, 0.003), (WIDTHS, 0.5, 0.0005)])
def test_what_experts_learn_makes_up_for_what_is_left_out(leave_out: str, keep: float, rate: float) -> None:
    pytest.importorskip("peft", reason="LoRA on pipelines is for those who have it")
    pipeline = tiny_pipeline("sd1")
    digest = digest_of(pipeline.unet, pipeline.text_encoder)
    settings = {"tuning_steps": 30, "batch_size": 4, "learning_rate": rate, "leave_out": leave_out}
    made = learned(pipeline, experts=1, keep=keep, **settings)
    ((before, after),) = made.record.errors
    assert after < before and made.deltas[0]
    gone = tuple(f"unet.{name}." for name in made.removed(0))
    names = list(made.deltas[0])
    assert all(name.endswith((".lora_A.weight", ".lora_B.weight")) and not name.startswith(gone) for name in names)
    assert bool(made.units) == (leave_out == WIDTHS) != bool(gone)
    assert len({name.rsplit(".", 2)[0] for name in names}) * 2 == len(names)
    assert digest_of(pipeline.unet, pipeline.text_encoder) == digest


def test_prompts_are_sent_to_the_expert_that_learned_them() -> None:
    """The pipeline's own reading of a prompt is the one that was learned with."""
    pipeline = tiny_pipeline("sd1")
    learning = ExpertLearning(
        prunable(pipeline, SIZE, DRAWING), PROMPTS, ExpertsSettings(**QUICK), lambda weights: weights
    )
    router, groups = learning.routed(2)
    left_out = [LeftOut((learning.parts[0].name,)), LeftOut(tuple(part.name for part in learning.parts[1:3]))]
    tuned = [learning.tuned(group, left_out[number], number, 0) for number, group in enumerate(groups)]
    made = learning.experts(router, groups, left_out, tuned)
    for number, group in enumerate(groups):
        for picture in group:
            prompt = learning.pictures.captions[picture]
            wanted = drawn(expert_pipeline(pipeline, made, prompt, number + 1), prompt)
            assert torch.equal(drawn(expert_pipeline(pipeline, made, prompt), prompt), wanted)


def test_where_there_is_little_noise_the_whole_pipeline_draws(experts: Experts) -> None:
    pipeline = tiny_pipeline("sd1")
    partly = replace(experts, record=replace(experts.record, whole_until=0.999))
    assert torch.equal(drawn(expert_pipeline(pipeline, partly, PROMPTS[0]), PROMPTS[0]), drawn(pipeline, PROMPTS[0]))
    assert learned(pipeline, whole_share=0.5, keep=0.8).record.whole_until == pytest.approx(0.4)


def test_a_protected_pipeline_is_sent_by_what_its_encoder_says_with_the_prefix(experts: Experts) -> None:
    pipeline = protect_pipeline(tiny_pipeline("sd1"), prefix_for("sd1"))
    expert = expert_pipeline(pipeline, experts, PROMPTS[0])
    assert not torch.allclose(drawn(expert, PROMPTS[0]), drawn(pipeline, PROMPTS[0]))


def test_breaking_off_leaves_the_pipeline_alone_and_the_next_run_goes_on(tmp_path: Path) -> None:
    pytest.importorskip("peft", reason="LoRA on pipelines is for those who have it")

    def cancel(done: int, of: int) -> None:
        if done == of - 2:
            raise BrokenOffError

    pipeline, settings = tiny_pipeline("sd1"), ExpertsSettings(**(QUICK | {"experts": 1, "tuning_steps": 6}))
    digest = digest_of(pipeline.unet)
    asked = PROMPTS, settings, SIZE, DRAWING
    with pytest.raises(BrokenOffError):
        learned_experts(pipeline, *asked, ExpertsCallbacks(cancel), tmp_path)
    assert digest_of(pipeline.unet) == digest and list(tmp_path.iterdir())
    resumed = learned_experts(pipeline, *asked, None, tmp_path)
    whole = learned_experts(pipeline, *asked)
    assert resumed.record == whole.record and resumed.deltas[0].keys() == whole.deltas[0].keys()
    assert all(torch.equal(weight, whole.deltas[0][name]) for name, weight in resumed.deltas[0].items())


def test_what_does_not_fit_is_a_sentence(experts: Experts) -> None:
    pipeline = tiny_pipeline("sd1")
    other = replace(experts, record=replace(experts.record, fingerprint="0123456789abcdef"))
    cases = [
        (lambda: expert_pipeline(pipeline, other, PROMPTS[0]), "learned on another model"),
        (lambda: expert_pipeline(pipeline, demo_experts(), PROMPTS[0]), "learned with ComfyUI, .* draw in ComfyUI"),
        (lambda: expert_pipeline(pipeline, experts, PROMPTS[0], 3), "There is no expert 3: there are 2"),
        (lambda: expert_pipeline(pipeline, experts, []), "There is no prompt"),
        (lambda: expert_pipeline(tiny_pipeline("flux"), experts, PROMPTS[0]), "pipelines of SD1, SD2 and SDXL"),
        (lambda: learned(pipeline, experts=5), "There are 4 prompts for 5 experts"),
        (
            lambda: expert_pipeline(expert_pipeline(pipeline, experts, "", 1), experts, PROMPTS[0]),
            "an expert already",
        ),
    ]
    for act, words in cases:
        with pytest.raises(ExpertsError, match=words):
            act()
