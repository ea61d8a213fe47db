"""How much is drawn and learned: as the settings want it, and nobody is left out of what the text encoder teaches."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch

from anonymize_faces.engines.automatic import FEW_STEPS, SDXL
from anonymize_faces.engines.options import Drawing
from anonymize_faces.tests.support.learning_checks import learning
from anonymize_faces.trainer.data.identities import Identity
from anonymize_faces.trainer.data.pairs import training_pairs
from anonymize_faces.trainer.data.prompts import GENERAL_PROMPTS, general_prompts
from anonymize_faces.trainer.loop import no_longer_improves
from anonymize_faces.trainer.presets import PRESETS
from anonymize_faces.trainer.reporting.report import describe
from anonymize_faces.trainer.settings import TrainingSettings
from anonymize_faces.trainer.state import Score, new_state
from anonymize_faces.trainer.training import PrefixTraining
from anonymize_faces.trainer.validation import hold_out

Make = Callable[..., Any]
PEOPLE = tuple(Identity(f"Person {chr(65 + n // 26)}{chr(97 + n % 26)}", f"a man with {n} hats") for n in range(120))


@pytest.mark.parametrize("preset", PRESETS)
def test_so_many_people_and_prompts_are_drawn_at_most_and_all_are_spoken_of(preset: str) -> None:
    settings = TrainingSettings(preset=preset)
    held_out = hold_out(PEOPLE, general_prompts("my own\nand mine", PEOPLE), settings.held_out, settings.seed)
    pairs = training_pairs(held_out, settings)
    learned = held_out.learned
    named = [pair for pair in pairs.learned if pair.names_somebody]
    others = [pair for pair in pairs.learned if not pair.names_somebody]
    assert len(named) == settings.portraits_per_identity * min(settings.people_drawn, len(learned.people))
    assert len(others) <= settings.general_drawn
    assert {"", "my own", "and mine"} <= {pair.student for pair in others}
    said = [pair.student for pair in pairs.spoken]
    for person in learned.people:
        assert any(person.name in prompt for prompt in said)
    assert {*learned.prompts, *GENERAL_PROMPTS} <= set(said)
    assert not any(person.name in prompt for person in held_out.people for prompt in said)


def test_with_fewer_than_are_drawn_at_most_all_are_drawn_in_their_order() -> None:
    settings = TrainingSettings(people_drawn=1000, general_drawn=1000, portraits_per_identity=1, held_out=0.0)
    pairs = training_pairs(hold_out(PEOPLE[:5], ("", "a dog"), 0.0, 0), settings)
    assert [pair.names_somebody for pair in pairs.learned] == [True] * 5 + [False] * 2
    for person, pair in zip(PEOPLE[:5], pairs.learned, strict=False):
        assert person.name in pair.student


@pytest.mark.parametrize(
    ("usual", "asked", "share", "steps"),
    [(SDXL, 0, 0.5, 10), (SDXL, 0, 1.0, 20), (SDXL, 0, 0.1, 10), (SDXL, 30, 0.5, 30), (FEW_STEPS, 0, 0.5, 4)],
)
def test_pictures_to_learn_from_take_a_share_of_the_usual_steps(
    usual: Any, asked: int, share: float, steps: int
) -> None:
    assert usual.drawing(Drawing(asked, 0.0), share).steps == steps


@pytest.mark.parametrize(
    ("totals", "patience", "ends"),
    [
        ([0.5, 0.4, 0.6], 2, False),
        ([0.5, 0.4, 0.6, 0.4], 2, True),
        ([0.5, 0.4, 0.6, 0.3], 2, False),
        ([0.5, 0.6, 0.7, 0.8], 0, False),
        ([float("nan")] * 3, 2, False),
        ([], 1, False),
    ],
)
def test_so_many_validations_without_anything_better_are_enough(totals: list[float], patience: int, ends: bool) -> None:
    state = new_state({"l": torch.randn(2, 4).requires_grad_()}, TrainingSettings())
    for number, total in enumerate(totals):
        state.step = 10 * (number + 1)
        state.add_score(Score(state.step, total, 0.0))
    reason = no_longer_improves(state, patience)
    assert bool(reason) == ends
    assert not ends or reason == "It ended at step 40, because nothing had become better since step 20."


def test_a_run_ends_early_and_says_why_and_its_best_prefix_is_kept(
    make_checkpoint: Make, make_denoiser: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    denoiser = make_denoiser(make_checkpoint())
    settings = dataclasses.replace(
        learning(), harden=0.0, steps=200, patience=2, held_out=0.0, portraits_per_identity=1, noisings_per_picture=1
    )
    worse = iter(range(1, 100))
    monkeypatch.setattr(
        "anonymize_faces.trainer.loop.Validation.score",
        lambda self, vectors, step: Score(step, float(next(worse)), 0.0),
    )
    learned = PrefixTraining(denoiser, PEOPLE[:2], ("", "a dog"), settings).learn()
    first, second, third = (score.step for score in learned.scores)
    assert learned.prefix.record.steps == third < settings.steps and learned.best.step == first
    assert learned.stopped == f"It ended at step {third}, because nothing had become better since step {first}."
    assert learned.stopped in describe(learned) and second < third
