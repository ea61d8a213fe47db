"""What a run takes is told before it begins, and whether memory suffices is tried before anything is drawn."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

from anonymize_faces.prefix.errors import MeasurementError, TrainingError
from anonymize_faces.runs.amounts import duration, gigabytes
from anonymize_faces.tests.support.finders import MiddleFinder
from anonymize_faces.tests.support.learning_checks import learning
from anonymize_faces.trainer.data.identities import Identity
from anonymize_faces.trainer.plan import Evaluations, Measured, Plan
from anonymize_faces.trainer.progress import Callbacks
from anonymize_faces.trainer.stages import face_region as face_region_module
from anonymize_faces.trainer.training import PrefixTraining

Make = Callable[..., Any]
PEOPLE = tuple(Identity(f"Ada {chr(65 + n)}lpha", "a woman with dark hair") for n in range(9))
GENERAL = ("", "a red circle", "a dog")


@pytest.fixture
def denoiser(make_checkpoint: Make, make_denoiser: Make) -> Any:
    return make_denoiser(make_checkpoint())


@pytest.mark.parametrize(
    ("overshoot", "conditional", "face_region"),
    [(0.0, True, True), (0.2, True, False), (0.2, False, True)],
)
def test_evaluations_are_those_that_are_made(
    denoiser: Any, overshoot: float, conditional: bool, face_region: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = dataclasses.replace(
        learning(conditional=conditional),
        steps=25,
        batch_size=3,
        portraits_per_identity=1,
        held_out=0.25,
        overshoot=overshoot,
        noisings_per_picture=14,
        face_region=face_region,
    )
    for name, value in (("STEPS", 3), ("FEWEST", 2)):
        monkeypatch.setattr(face_region_module, name, value)
    made = Counter[str]()
    predict, sample = denoiser.predict, denoiser.sample

    def counted(noised: torch.Tensor, *arguments: Any) -> Any:
        predicted = predict(noised, *arguments)
        made["learning" if predicted.requires_grad else "asking"] += len(noised)
        return predicted

    def drawn(prompts: Any, *arguments: Any) -> Any:
        made["drawing"] += len(prompts)
        return sample(prompts, *arguments)

    training = PrefixTraining(denoiser, PEOPLE, GENERAL, settings, finding=lambda: nullcontext(MiddleFinder()))
    plans: list[Plan] = []
    plan = training.plan()
    monkeypatch.setattr(denoiser, "predict", counted)
    monkeypatch.setattr(denoiser, "sample", drawn)
    learned = training.learn(Callbacks(plan=plans.append))
    # A dry step, twice: one prediction without and one with a gradient each.
    assert plan.evaluations == plans[0].evaluations
    assert plan.evaluations.learning == 3 * (made["learning"] - 2)
    asked = plan.evaluations.teaching + plan.evaluations.validation + plan.evaluations.face_region
    assert asked == made["asking"] - 2
    assert bool(learned.prefix.face_region) == bool(plan.evaluations.face_region) == face_region
    assert bool(plan.seconds[4]) == face_region
    assert plan.pictures == made["drawing"]
    assert plan.evaluations.drawing == made["drawing"] * denoiser.evaluations_a_picture == 6 * plan.pictures
    assert plan.kept_bytes > 0 and all(second > 0 for second in (plans[0].seconds[0], plans[0].seconds[2]))


def test_a_picture_that_memory_lacks_for_is_told_before_anything_is_drawn(
    denoiser: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr(denoiser, "sample", lambda *_: pytest.fail("something was drawn"))
    monkeypatch.setattr(denoiser, "predict", fails)
    with pytest.raises(TrainingError, match="not enough memory for a single picture"):
        PrefixTraining(denoiser, PEOPLE, GENERAL, learning(), runs=tmp_path).learn()
    assert not any(tmp_path.iterdir())


def test_what_is_missing_to_find_faces_with_is_told_before_anything_is_drawn(
    denoiser: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def missing() -> Iterator[Any]:
        raise MeasurementError("facenet-pytorch is not installed: install it.")
        yield

    monkeypatch.setattr(denoiser, "sample", lambda *_: pytest.fail("something was drawn"))
    settings = dataclasses.replace(learning(), face_region=True)
    with pytest.raises(MeasurementError, match="install it"):
        PrefixTraining(denoiser, PEOPLE, GENERAL, settings, runs=tmp_path, finding=missing).learn()
    assert not any(tmp_path.iterdir())


def test_memory_that_lacks_for_once_is_saved_from_the_first_picture_on(
    denoiser: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict, calls = denoiser.predict, []

    def lacks_once(*arguments: Any) -> Any:
        calls.append(denoiser.saves_memory)
        if len(calls) == 2:
            raise MemoryError
        return predict(*arguments)

    monkeypatch.setattr(denoiser, "predict", lacks_once)
    PrefixTraining(denoiser, PEOPLE, GENERAL, learning()).plan()
    assert calls[:2] == [False, False] and all(calls[2:])


def test_the_plan_is_told_in_words_and_numbers() -> None:
    evaluations, seconds = Evaluations(8_880, 1_000, 2_000, 100, 20), (600.0, 30.0, 20.0, 200.0, 30.0)
    plan = Plan(48, 222, 900, evaluations, seconds, 5 * 2**30, 3 * 2**20)
    assert plan.words == (
        "48 people, 222 pictures to draw, 12,000 evaluations of the model, about 15 minutes, 5.0 GB of memory beside"
        " the model, 3 MB of disk until it ends"
    )
    assert plan.table["evaluations"] == 12_000 and plan.table["seconds"] == 880
    assert [duration(seconds) for seconds in (3, 61, 7200)] == [
        "less than a minute",
        "about 2 minutes",
        "about 2.0 hours",
    ]
    assert gigabytes(1) == "1 MB"
    assert Measured(1, 2, 3).learning == 3
