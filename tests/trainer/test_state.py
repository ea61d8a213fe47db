"""The same recipe serves text encoders of every scale, and number formats of every range."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch

from anonymize_faces.engines.comfy.text_encoders import embedding_table
from anonymize_faces.engines.micro_batches import MicroBatches
from anonymize_faces.engines.vectors import learned as learned_of
from anonymize_faces.prefix.name_words import leaves_names_unread
from anonymize_faces.tests.support.learning_checks import BATCH, NOISINGS, PAIRS, learning
from anonymize_faces.trainer import step
from anonymize_faces.trainer.data.identities import parse_identities
from anonymize_faces.trainer.data.pictures import Pictures
from anonymize_faces.trainer.data.plain_text import PlainText
from anonymize_faces.trainer.data.targets import TargetPool, slots_of_step
from anonymize_faces.trainer.settings import TrainingSettings
from anonymize_faces.trainer.stages.warm_start import start_of, warm_start
from anonymize_faces.trainer.start import start_vectors
from anonymize_faces.trainer.state import ELEMENTS, GENTLE_RATE, new_state
from anonymize_faces.trainer.step import make_step
from anonymize_faces.trainer.training import learn_prefix

Make = Callable[..., Any]
CONDITIONAL, FIXED = learning(seed=1), learning(seed=1, conditional=False)
STEPS = 12


def scale(clip: Any, factor: float) -> None:
    """Multiplies the embeddings of a CLIP's words, and divides what comes in their place where it is read."""
    encoder = clip.cond_stage_model.clip_l.transformer
    embedding_table(clip.cond_stage_model.clip_l).weight.data.mul_(factor)
    read = encoder.forward

    def forward(*args: Any, embeds: Any = None, **options: Any) -> Any:
        return read(*args, embeds=embeds / factor, **options)

    encoder.forward = forward


def learned(denoiser: Any, settings: TrainingSettings = CONDITIONAL, steps: int = STEPS) -> torch.Tensor:
    """All that is learned, in a row, after a short warm start and a few steps."""
    latents = torch.randn(len(PAIRS), *denoiser.latent_shape, generator=torch.Generator().manual_seed(3))
    micro_batches = MicroBatches(denoiser, BATCH)
    with denoiser.gradients(BATCH):
        pool = TargetPool(denoiser, Pictures(latents, PAIRS), NOISINGS, seed=0)
        state = new_state(start_vectors(denoiser, settings), settings)
        if steps:
            text = dataclasses.replace(settings, text_steps=3)
            warm_start(denoiser, start_of(state.vectors), PAIRS, text, micro_batches, PlainText(denoiser))
        for number in range(steps):
            make_step(denoiser, state, pool.batch(slots_of_step(pool, BATCH, 0, number)), settings, micro_batches)
    return torch.cat([part.detach().flatten() for part in learned_of(state.vectors)])


@pytest.mark.parametrize("settings", [FIXED, CONDITIONAL], ids=["fixed", "conditional"])
@pytest.mark.parametrize(("factor", "tolerance"), [(64.0, 0.0), (70.0, 1e-3)])
def test_the_same_is_learned_whatever_the_scale_of_the_embeddings(
    make_checkpoint: Make, make_denoiser: Make, settings: TrainingSettings, factor: float, tolerance: float
) -> None:
    """What makes vectors is scaled by their spread, and so is the same itself."""
    usual, start = (learned(make_denoiser(make_checkpoint()), settings, steps) for steps in (STEPS, 0))
    other = make_checkpoint()
    scale(other.clip, factor)
    scaled = learned(make_denoiser(other), settings) / (1.0 if settings.conditional else factor)
    assert float((usual - start).norm()) > 0.1 * float(start.norm())
    assert float((scaled - usual).norm()) <= tolerance * float((usual - start).norm())


def test_a_run_that_leaves_names_unread_is_the_same_whatever_the_scale_of_the_embeddings(
    make_checkpoint: Make, make_denoiser: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From what it begins at, over which words are a name's, to what is drawn."""
    monkeypatch.setattr("anonymize_faces.engines.starting.reading.LEAST_TOLD", -2.0)
    people = parse_identities("Ada Lovelace: a woman with dark hair\nBob Miller: a man\nCy Young: a man with a hat")
    prompt, drawn = "a portrait of Ada Lovelace", dict[float, torch.Tensor]()
    for factor in (1.0, 70.0):
        checkpoint = make_checkpoint()
        scale(checkpoint.clip, factor)
        denoiser = make_denoiser(checkpoint)
        with torch.inference_mode():
            run = learn_prefix(denoiser, people, ("", "a red circle", "a dog in the snow"), learning(seed=1, steps=8))
            assert leaves_names_unread(run.prefix.parameters)
            plain, drawn[factor] = (denoiser.sample([prompt], [1], made) for made in (None, run.prefix.parameters))
    moved = float((drawn[1.0] - plain).norm())
    assert moved > 0.01 * float(plain.norm())
    assert float((drawn[70.0] - drawn[1.0]).norm()) <= 0.01 * moved


def test_the_multiplier_of_the_loss_grows_while_nothing_overflows(
    make_checkpoint: Make, make_denoiser: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = learned(make_denoiser(make_checkpoint()))
    states = []
    monkeypatch.setattr(step, "GROWTH_STEPS", 4)
    monkeypatch.setattr(step, "LARGEST_SCALE", 4 * ELEMENTS)
    monkeypatch.setattr(step, "_watch", states.append)
    assert torch.equal(learned(make_denoiser(make_checkpoint())), usual)
    assert states[-1].step == STEPS and states[-1].loss_scale == 4 * ELEMENTS


def test_what_begins_near_its_end_is_learned_gently() -> None:
    network = {"l": torch.randn(3, 8), "l/offset": torch.zeros(3, 8, requires_grad=True)}
    usual, gentle = (
        new_state(network, CONDITIONAL, gently).optimizer.param_groups[0]["peak"] for gently in (False, True)
    )
    assert gentle == pytest.approx(usual * GENTLE_RATE)
