"""The whole run on tiny models made of the host's own classes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from anonymize_faces.prefix import TrainingError
from anonymize_faces.tests.support.breaking_off import BrokenOffError
from anonymize_faces.tests.support.prefixes import numbers
from anonymize_faces.trainer.data.identities import parse_identities
from anonymize_faces.trainer.progress import Callbacks, Learned, Progress
from anonymize_faces.trainer.reporting.plot import plot_losses
from anonymize_faces.trainer.reporting.report import describe
from anonymize_faces.trainer.settings import TrainingSettings
from anonymize_faces.trainer.start import start_vectors
from anonymize_faces.trainer.training import learn_prefix

PEOPLE = parse_identities("Ada Lovelace: a woman with dark hair\nBob Miller")
GENERAL = ("", "a red circle", "a dog in the snow")
Make = Callable[..., Any]
SHORT = TrainingSettings(
    shards=1, text_steps=0, steps=3, batch_size=4, portraits_per_identity=1, noisings_per_picture=2
)


def learn(denoiser: Any, settings: TrainingSettings = SHORT, **kwargs: Any) -> Learned:
    return learn_prefix(denoiser, PEOPLE, GENERAL, settings, Callbacks(**kwargs))


def test_the_losses_fall_in_every_parameterization(checkpoint: Any, make_denoiser: Make) -> None:
    settings = TrainingSettings(
        text_steps=0,
        steps=28,
        learning_rate=0.02,
        portraits_per_identity=1,
        noisings_per_picture=2,
        harden=0.0,
    )
    with torch.inference_mode():
        history = learn(make_denoiser(checkpoint), settings).history
    first, last = (sum(a + b for a, b in part) for part in (history[:10], history[-10:]))
    assert last < 0.9 * first


def test_a_family_with_two_encoders_and_pooled_output_learns_vectors_for_both(
    make_checkpoint: Make, make_denoiser: Make
) -> None:
    settings = TrainingSettings(
        text_steps=0, steps=10, batch_size=4, portraits_per_identity=1, noisings_per_picture=2, patience=0, held_out=0
    )
    with torch.inference_mode():
        denoiser = make_denoiser(make_checkpoint(family="sdxl"))
        learned = learn(denoiser, settings)
    assert learned.prefix.widths == {"g": 48, "l": 32}
    assert learned.best.step > 0
    for key in learned.prefix.widths:
        assert (learned.prefix.networks[f"{key}/offset"].norm(dim=1) > 0.01).all(), key


def test_the_same_seed_gives_the_same_prefix_to_the_last_bit_and_another_seed_another(
    make_checkpoint: Make, make_denoiser: Make
) -> None:
    one, two = (numbers(learn(make_denoiser(make_checkpoint())).prefix) for _ in range(2))
    other = numbers(learn(make_denoiser(make_checkpoint()), TrainingSettings(**{**vars(SHORT), "seed": 1})).prefix)
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


def test_a_second_run_in_the_same_session_gives_the_same_prefix(checkpoint: Any, make_denoiser: Make) -> None:
    with torch.inference_mode():
        one, two = (numbers(learn(make_denoiser(checkpoint)).prefix) for _ in range(2))
    assert torch.equal(one, two)


def test_afterwards_the_model_draws_the_same_pictures_to_the_last_bit(checkpoint: Any, make_denoiser: Make) -> None:
    with torch.inference_mode():
        before = make_denoiser(checkpoint).sample(["Ada Lovelace"], [7])
        learn(make_denoiser(checkpoint))
        after = make_denoiser(checkpoint).sample(["Ada Lovelace"], [7])
    assert torch.equal(before, after)


def test_the_prefix_carries_how_it_was_learned(make_checkpoint: Make, make_denoiser: Make) -> None:
    prefix = learn(make_denoiser(make_checkpoint())).prefix
    assert (prefix.length, prefix.widths) == (16, {"l": 32})
    record = prefix.record
    assert (record.identities, record.steps, record.family) == (2, 3, "TinyUNet")
    assert record.settings["batch_size"] == 4
    assert len(record.fingerprint) == 16 and record.date


def test_progress_is_told_after_every_batch_of_pictures_and_every_step(
    make_checkpoint: Make, make_denoiser: Make
) -> None:
    seen: list[Progress] = []
    learn(make_denoiser(make_checkpoint()), TrainingSettings(**{**vars(SHORT), "text_steps": 2}), report=seen.append)
    read = [entry for entry in seen if entry.stage.name == "encoding_prompts"]
    done = list(dict.fromkeys((entry.pictures, entry.text_steps, entry.steps) for entry in seen))
    assert done == [(2, 0, 0), (5, 0, 0), (5, 1, 0), (5, 2, 0), (5, 2, 1), (5, 2, 2), (5, 2, 3)]
    prompts = [entry.prompts for entry in read]
    assert prompts == sorted(prompts) and len(set(prompts)) > 5 and read[-1].stage.done == read[-1].stage.of
    assert {entry.of for entry in seen} == {(5, 2, 3, prompts[-1])} and seen[-1].done == 10 + prompts[-1]
    assert all(math.isfinite(entry.losses.identities) for entry in seen if entry.steps)


@pytest.mark.parametrize("when", [0, 2])
def test_a_run_can_be_stopped_while_drawing_and_at_any_step(
    when: int, make_checkpoint: Make, make_denoiser: Make
) -> None:
    checkpoint = make_checkpoint()
    calls: list[Progress] = []

    def stop(progress: Progress) -> None:
        calls.append(progress)
        if len(calls) > when:
            raise BrokenOffError

    with pytest.raises(BrokenOffError):
        learn(make_denoiser(checkpoint), report=stop)
    assert len(calls) == when + 1
    assert checkpoint.model.model.current_patcher is None


def test_a_loss_that_is_not_finite_stops_the_run_with_a_remedy(make_checkpoint: Make, make_denoiser: Make) -> None:
    checkpoint = make_checkpoint()
    with torch.no_grad():
        next(checkpoint.model.model.diffusion_model.out[2].parameters()).fill_(float("inf"))
    with pytest.raises(TrainingError, match="lower the learning rate"):
        learn(make_denoiser(checkpoint))


def test_nobody_to_learn_from_is_refused(make_checkpoint: Make, make_denoiser: Make) -> None:
    with pytest.raises(TrainingError, match="at least one identity"):
        learn_prefix(make_denoiser(make_checkpoint()), (), GENERAL, SHORT)


@pytest.mark.parametrize(
    "setting",
    [{"steps": -1}, {"vectors": 0}, {"batch_size": -1}, {"learning_rate": 0.0}, {"text_steps": -2}, {"overshoot": 2.0}],
)
def test_settings_out_of_range_are_refused(setting: dict[str, Any]) -> None:
    with pytest.raises(TrainingError):
        TrainingSettings(**setting)


def test_a_prefix_can_start_from_words(make_checkpoint: Make, make_denoiser: Make) -> None:
    denoiser = make_denoiser(make_checkpoint())
    words = denoiser.token_embeddings("a stranger")["l"]
    start = start_vectors(denoiser, TrainingSettings(init="a stranger", vectors=5))["l"]
    assert torch.equal(start, words[[0, 1, 0, 1, 0]])


@pytest.mark.parametrize("batch_size", [1, 3, 4])
def test_half_of_what_is_learned_from_names_somebody(
    batch_size: int, make_checkpoint: Make, make_denoiser: Make
) -> None:
    settings = TrainingSettings(**{**vars(SHORT), "steps": 12, "batch_size": batch_size, "conditional": False})
    history = learn(make_denoiser(make_checkpoint()), settings).history
    for kind in range(2):
        assert sum(not math.isnan(losses[kind]) for losses in history) >= 3


def test_report_and_plot_tell_of_both_kinds_of_prompts(make_checkpoint: Make, make_denoiser: Make) -> None:
    learned = learn(make_denoiser(make_checkpoint()))
    report, plot = describe(learned), plot_losses(learned.history)
    assert "2 people in 3 steps" in report and "identity signal" in report and "name nobody" in report
    assert plot.shape == (1, 540, 960, 3) and plot.dtype == torch.float32
    assert plot.min() >= 0 and plot.max() == 1 and len(plot.unique()) > 10
