"""What can be known of a run while it goes on, with a clock of the tests' own."""

from __future__ import annotations

import dataclasses
import json
import math
import time

import pytest

from anonymize_faces.finetuning.progress import FinetuningPlan
from anonymize_faces.trainer.plan import Evaluations, Plan
from anonymize_faces.trainer.progress import Progress, Stage
from anonymize_faces.trainer.reporting.telemetry import (
    FINE_TUNING,
    MOST_POINTS,
    RATE_SECONDS,
    PreviewPicture,
    Run,
    SampledCurve,
    Telemetry,
)
from anonymize_faces.trainer.state import Losses, Score

WHOLE = (10, 20, 100, 40)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def telemetry(clock: Clock) -> Telemetry:
    begun = Telemetry(clock)
    begun.begin(Run("p", "3", "w"))
    return begun


def at_step(step: int, score: Score | None = None, *scores: Score) -> Progress:
    history = [Losses(1 / (n + 1), 0.5) for n in range(step)]
    return Progress(10, 20, step, WHOLE, history[-1] if history else None, score, history, (), scores)


PLAN = Plan(5, 10, 40, Evaluations(1, 2, 3, 4), (100.0, 50.0, 20.0, 400.0, 0.0), 7, 8)


def test_the_time_left_is_that_of_the_whole_run_once_there_is_a_plan(telemetry, clock):
    def left() -> float:
        return telemetry.snapshot()["run"]["seconds_left"]

    telemetry.plan(PLAN)
    assert left() == 570
    assert telemetry.snapshot()["run"]["plan"] == {
        "people": 5, "pictures": 10, "prompts": 40, "evaluations": 10, "seconds": 570.0,
        "kept_bytes": 7, "disk_bytes": 8
    }  # fmt: skip
    telemetry.note(Progress(2, 0, 0, WHOLE))
    assert left() == 80 + 470
    clock.now += 5
    telemetry.note(Progress(4, 0, 0, WHOLE))
    # Drawing takes a quarter of what was planned for it; so will learning.
    assert left() == pytest.approx(6 * 2.5 + 50 + 20 + 100)
    telemetry.note(Progress(10, 4, 0, WHOLE))
    assert left() == pytest.approx(40 + 20 + 100)
    telemetry.note(Progress(10, 20, 0, WHOLE, prompts=10))
    assert left() == pytest.approx(15 + 100)
    telemetry.note(at_step(20))
    assert left() == pytest.approx(80)
    telemetry.plan(dataclasses.replace(PLAN, seconds=(*PLAN.seconds[:4], 60.0)))
    assert left() == pytest.approx(80 + 15)
    telemetry.note(dataclasses.replace(at_step(100), face_region=(1, 3)))
    assert left() == pytest.approx(10)
    telemetry.begin(Run())
    assert left() is None and telemetry.snapshot()["run"]["plan"] is None


def test_fine_tuning_tells_its_one_loss_and_how_long_it_takes(telemetry, clock):
    telemetry.begin(Run("p", "3", "w", FINE_TUNING))
    telemetry.note_stage(Stage("drawing", 1, 4))
    assert telemetry.snapshot()["run"]["seconds_left"] is None
    telemetry.plan(FinetuningPlan(10, 5000, 7, 8, 30.0))
    telemetry.note_stage(Stage("drawing", 3, 4))
    clock.now += 1
    assert telemetry.snapshot()["run"]["seconds_left"] == pytest.approx(30, abs=1)
    history = [(math.nan,), (0.5,), (0.25,)]
    telemetry.note_stage(Stage("learning", 2, 10), history[:2])
    clock.now += 2
    telemetry.note_stage(Stage("learning", 3, 10), history, ["It went on."])
    run = telemetry.snapshot()["run"]
    assert (run["kind"], run["state"], run["done"], run["of"]) == (FINE_TUNING, "learning", 3, 10)
    assert run["curve"] == {"steps": [1, 2, 3], "loss": [None, 0.5, 0.25]} and run["notes"] == ["It went on."]
    assert run["seconds_left"] == pytest.approx(14)
    assert run["plan"] == {"steps": 10, "parameters": 5000, "seconds": 30.0, "kept_bytes": 7, "state_bytes": 8}
    telemetry.begin(Run())
    assert telemetry.snapshot()["run"]["kind"] == "prefix"


def test_before_any_run_there_is_none():
    assert Telemetry().snapshot() == {"version": 0, "run": None}


@pytest.mark.parametrize(
    ("progress", "state", "done", "of"),
    [
        (Progress(4, 0, 0, WHOLE), "drawing", 4, 10),
        (Progress(10, 7, 0, WHOLE), "text_warm_up", 7, 20),
        (Progress(10, 0, 0, WHOLE, prompts=8), "encoding_prompts", 8, 40),
        (Progress(10, 7, 0, WHOLE, prompts=8), "text_warm_up", 7, 20),
        (Progress(10, 20, 0, WHOLE, prompts=9), "encoding_prompts", 9, 40),
        (at_step(30), "learning", 30, 100),
    ],
)
def test_a_run_tells_what_it_is_at_and_how_far(telemetry, progress, state, done, of):
    telemetry.note(progress)
    run = telemetry.snapshot()["run"]
    assert (run["state"], run["done"], run["of"]) == (state, done, of)
    assert (run["prompt_id"], run["node_id"], run["workflow_id"]) == ("p", "3", "w")


def test_time_left_follows_the_last_minute_and_runs_down_between_steps(telemetry, clock):
    for step in range(1, 11):
        clock.now += 2 if step < 5 else RATE_SECONDS / 2
        telemetry.note(at_step(step))
    assert telemetry.snapshot()["run"]["seconds_left"] == 90 * RATE_SECONDS / 2
    clock.now += 7
    assert telemetry.snapshot()["run"]["seconds_left"] == 90 * RATE_SECONDS / 2 - 7


def test_time_left_is_unknown_at_the_start_of_each_part_and_when_all_is_over(telemetry, clock):
    telemetry.note(Progress(2, 0, 0, WHOLE))
    assert telemetry.snapshot()["run"]["seconds_left"] is None
    clock.now += 3
    telemetry.note(Progress(4, 0, 0, WHOLE))
    assert telemetry.snapshot()["run"]["seconds_left"] == pytest.approx(9)
    telemetry.note(at_step(1))
    assert telemetry.snapshot()["run"]["seconds_left"] is None
    clock.now += 1
    telemetry.note(at_step(2))
    telemetry.end("stopped", "You stopped it.")
    run = telemetry.snapshot()["run"]
    assert (run["state"], run["message"], run["seconds_left"]) == ("stopped", "You stopped it.", None)


def test_a_curve_of_any_length_keeps_its_means_in_few_points():
    history = [Losses(float(n), 1.0 if n % 2 else math.nan) for n in range(1, 5001)]
    curve = SampledCurve()
    for seen in (1, 3, 700, 4999, 5000):
        curve.extend(history[:seen])
    table = curve.table()
    assert len(table["steps"]) <= MOST_POINTS and table["steps"][-1] == 5000
    span = table["steps"][0]
    assert span == 32 and table["identities"][:2] == [16.5, 48.5]
    assert table["general"][0] == 1.0


def test_steps_without_a_loss_leave_a_gap():
    curve = SampledCurve()
    curve.extend([Losses(1.0, math.nan), Losses(math.nan, math.nan), Losses(3.0, 2.0)])
    assert curve.table() == {"steps": [1, 2, 3], "identities": [1.0, None, 3.0], "general": [None, None, 2.0]}


def test_a_run_that_goes_on_after_a_crash_shows_its_whole_curve(telemetry):
    telemetry.note(at_step(60))
    assert telemetry.snapshot()["run"]["curve"]["steps"] == list(range(1, 61))


def test_what_is_noted_on_the_way_is_told_until_the_next_run(telemetry):
    note = "The model does not seem to know Ada."
    telemetry.note(dataclasses.replace(at_step(1), notes=(note,)))
    assert telemetry.snapshot()["run"]["notes"] == [note]
    telemetry.begin(Run("next", "3", None))
    assert telemetry.snapshot()["run"]["notes"] == []


def test_score_and_pictures_are_told_and_forgotten_with_the_next_run(telemetry):
    best, worse = Score(1, 0.12, 0.03), Score(3, 0.2, 0.02)
    telemetry.note(at_step(2, best, best))
    telemetry.note(at_step(3, best, best, worse))
    examined = [[1, 0.12, 0.03], [3, 0.2, 0.02]]
    assert telemetry.snapshot()["run"]["scores"] == examined
    telemetry.score(Score(1, 0.3, 0.25))
    told = telemetry.snapshot()["run"]
    assert told["scores"] == examined and told["score"]["general_prompts_moved"] == 0.25
    telemetry.score(best)
    telemetry.picture(PreviewPicture(b"jpeg", ("Ada", "Ben"), True))
    run = telemetry.snapshot()["run"]
    assert run["score"] == {"step": 1, "identity_signal_left": 0.12, "general_prompts_moved": 0.03}
    assert json.loads(json.dumps(run["picture"])) == {"number": 1, "people": ["Ada", "Ben"], "held_out": True}
    assert telemetry.newest_picture.jpeg == b"jpeg"
    telemetry.begin(Run("q", "3", "w"))
    run = telemetry.snapshot()["run"]
    assert run["score"] is run["picture"] is telemetry.newest_picture is None
    assert run["curve"] == {"steps": [], "identities": [], "general": []}


def test_whatever_happens_raises_the_version(telemetry):
    seen = [telemetry.version]
    happens = [
        lambda: telemetry.note(at_step(1)),
        lambda: telemetry.score(Score(1, 0.1, 0.1)),
        lambda: telemetry.picture(PreviewPicture(b"", (), False)),
        lambda: telemetry.end("finished"),
        lambda: telemetry.begin(Run()),
    ]
    for happen in happens:
        happen()
        seen.append(telemetry.version)
    assert seen == sorted(set(seen)) and len(seen) == 6


def test_a_long_run_stays_a_small_message(telemetry):
    telemetry.note(at_step(100_000))
    assert len(json.dumps(telemetry.snapshot())) < 8000


def test_being_told_costs_a_step_next_to_nothing(telemetry):
    history: list[Losses] = []
    began = time.process_time()
    for step in range(1, 2001):
        history.append(Losses(0.5, 0.5))
        telemetry.note(Progress(10, 20, step, (10, 20, 2000, 40), history[-1], None, history))
    # A step of the demo model takes some 500 ms of computing, one of a real model more: 1 % is 5 ms.
    assert (time.process_time() - began) / 2000 < 0.005
