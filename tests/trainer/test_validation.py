"""Whether a run knows if it worked: people held out, scores, the best snapshot, what is shown and told."""

from __future__ import annotations

import dataclasses
import unicodedata
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch

from anonymize_faces.engines.micro_batches import MicroBatches
from anonymize_faces.engines.options import Drawing
from anonymize_faces.trainer.data.identities import Identity
from anonymize_faces.trainer.data.list_text import sameness
from anonymize_faces.trainer.data.pairs import MOST_NAMED
from anonymize_faces.trainer.data.pictures import Pair, Pictures
from anonymize_faces.trainer.data.prompts import NEGATIVES
from anonymize_faces.trainer.data.targets import TargetPool, negatives_of
from anonymize_faces.trainer.progress import Callbacks, Learned
from anonymize_faces.trainer.reporting.preview import PREVIEW_SHARE, PreviewBudget
from anonymize_faces.trainer.reporting.report import describe
from anonymize_faces.trainer.settings import TrainingSettings
from anonymize_faces.trainer.state import Score
from anonymize_faces.trainer.training import learn_prefix
from anonymize_faces.trainer.validation import (
    COST,
    LEAST_ASKED,
    MOST_HELD_OUT,
    Validation,
    hold_out,
    steps_between,
    validation_pictures,
)

Make = Callable[..., Any]
PEOPLE = tuple(Identity(f"Person {number}", f"a man with {number} hats") for number in range(16))
GENERAL = ("", *(f"{number} red circles" for number in range(12)))
SETTINGS = TrainingSettings(
    text_steps=0,
    steps=20,
    batch_size=8,
    vectors=3,
    portraits_per_identity=1,
    noisings_per_picture=1,
    patience=0,
    harden=0.0,
)
PAIRS = (Pair("Ada Lovelace", "a woman", True), Pair("a dog", "a dog", False))


@pytest.fixture
def denoiser(make_checkpoint: Make, make_denoiser: Make) -> Any:
    return make_denoiser(make_checkpoint())


def learn(denoiser: Any, people: Any = PEOPLE, settings: TrainingSettings = SETTINGS, **options: Any) -> Learned:
    with torch.inference_mode():
        return learn_prefix(denoiser, people, GENERAL, settings, Callbacks(**options))


def test_a_share_of_the_people_and_of_the_prompts_is_held_out_and_none_is_lost() -> None:
    held = hold_out(PEOPLE, GENERAL, 0.4, seed=0)
    parts = (held.learned, held.choosing, held.reporting)
    assert [len(part.people) for part in parts] == [10, 3, 3]
    assert [len(part.prompts) for part in parts] == [8, 5, 0]
    assert sorted((one for part in parts for one in part.people), key=PEOPLE.index) == list(PEOPLE)
    assert sorted(prompt for part in parts for prompt in part.prompts) == sorted(GENERAL)
    assert "" in held.learned.prompts
    assert held != hold_out(PEOPLE, GENERAL, 0.4, seed=1)
    many = tuple(Identity(f"Person {number}") for number in range(300))
    assert len(hold_out(many, GENERAL, 0.5, seed=0).people) == MOST_HELD_OUT
    # Of few people that are held out, all choose: half of them would tell little.
    few = hold_out(PEOPLE, GENERAL, 0.125, seed=0)
    assert len(few.choosing.people) == LEAST_ASKED and few.reporting.people == ()


@pytest.mark.parametrize("seed", range(8))
def test_one_person_under_several_names_is_on_one_side(seed: int) -> None:
    names = [f"Zoë Person {number}" for number in range(10)]
    twins = [write(name) for name in names for write in (str.upper, partial(unicodedata.normalize, "NFD"))]
    people = tuple(Identity(name) for name in (*names, *twins))
    prompts = ("", *(f"{name} café" for name in names), *(unicodedata.normalize("NFD", f"{n} café") for n in names))
    held = hold_out(people, prompts, 0.3, seed)
    assert len(held.people) == len({one.key for one in held.people}) == 3
    assert not {one.key for one in held.people} & {one.key for one in held.learned.people}
    assert len(held.learned.people) == 21
    asked, learned = held.choosing.prompts, held.learned.prompts
    assert not {sameness(one) for one in asked} & {sameness(one) for one in learned}
    assert len(asked) == 3 and len(learned) == 15 and "" in learned


@pytest.mark.parametrize(("count", "share"), [(7, 0.125), (16, 0.0)])
def test_of_few_people_or_if_told_so_none_is_held_out(count: int, share: float) -> None:
    held = hold_out(PEOPLE[:count], ("", "a dog"), share, seed=0)
    assert held.learned.people == PEOPLE[:count] and held.people == () and held.choosing.prompts == ()


def test_people_held_out_are_drawn_but_never_learned_from(denoiser: Any) -> None:
    settings = dataclasses.replace(SETTINGS, held_out=0.4)
    held_out = {identity.name for identity in hold_out(PEOPLE, GENERAL, 0.4, 0).people}
    learned_from: set[str] = set()
    encode = denoiser.encode

    def watch(prompts: Any, vectors: Any = None, layers: Any = None, embedding: Any = None) -> Any:
        if torch.is_grad_enabled():
            learned_from.update(prompts)
        return encode(prompts, vectors, layers, embedding)

    denoiser.encode = watch
    learned = learn(denoiser, settings=settings)
    assert learned.examined == 3 and len(held_out) == 6 and learned.prefix.record.identities == 10
    named = {name for prompt in learned_from for name in [i.name for i in PEOPLE] if name in prompt}
    assert len(named) > 8
    assert not {prompt for prompt in learned_from for name in held_out if prompt.split(name)[-1].startswith(" ")}


def test_the_score_is_one_where_a_prefix_says_what_the_name_says_and_zero_where_it_says_the_looks(
    denoiser: Any,
) -> None:
    latents = torch.randn(2, *denoiser.latent_shape, generator=torch.Generator().manual_seed(1))
    encode = denoiser.encode
    said: dict[str, str] = {}

    def prefixed_as(prompts: Any, vectors: Any = None, layers: Any = None) -> Any:
        return encode([said.get(prompt, prompt) if vectors else prompt for prompt in prompts], None, layers)

    denoiser.encode = prefixed_as
    validation = Validation(denoiser, Pictures(latents, PAIRS), [0, 1], 0, MicroBatches(denoiser, 8))
    vectors = {"l": torch.zeros(1, 32)}
    with denoiser.gradients(8):
        plain = validation.score(vectors, 1)
        said |= {"Ada Lovelace": "a woman", "a dog": ""}
        turned = validation.score(vectors, 2)
    assert plain == pytest.approx((1, 1.0, 0.0), abs=1e-5)
    assert turned == pytest.approx((2, 0.0, 1.0), abs=1e-5)


def test_where_nothing_is_held_out_the_validation_is_about_what_was_learned_from() -> None:
    learned = (PAIRS[0], PAIRS[1], PAIRS[0])
    assert validation_pictures(learned, ()) == [0, 2, 1]
    assert validation_pictures(learned, (PAIRS[1],)) == [0, 2, 3]


@pytest.mark.parametrize("batch_size", [1, 8, 64])
def test_validations_take_no_more_than_their_share(batch_size: int) -> None:
    questions = 48
    assert questions <= COST * 3 * batch_size * steps_between(questions, batch_size)


def test_the_best_snapshot_is_the_prefix_and_its_figures_are_in_report_and_record(
    denoiser: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = iter([(0.8, 0.4), (0.5, 0.1), (0.9, 0.4)])
    seen: list[torch.Tensor] = []

    def score(self: Validation, vectors: Any, step: int) -> Score:
        seen.append(vectors["l/offset"].detach().clone())
        return Score(step, *next(figures))

    monkeypatch.setattr(Validation, "score", score)
    monkeypatch.setattr("anonymize_faces.trainer.loop.steps_between", lambda questions, batch_size: 10)
    learned = learn(denoiser)
    assert [entry.step for entry in learned.scores] == [0, 10, 20] and learned.best.step == 10
    assert torch.equal(learned.prefix.networks["l/offset"], seen[1]) and not torch.equal(seen[1], seen[2])
    assert dict(learned.prefix.record.scores) == {
        "identity_signal_left": 0.5,
        "general_prompts_moved": 0.1,
        "best_step": 10,
    }
    report = describe(learned)
    told = "50 % of the identity signal is gone, examined on 3 people it did not learn from"
    assert f"{told}, who chose the best prefix as well: too few are held out for both." in report
    assert "Prompts that name nobody changed somewhat: by 10 % of what their words do." in report
    assert "The prefix is that of step 10, the best there was" in report


def test_the_figures_are_about_people_who_chose_nothing(denoiser: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    figures = iter([(0.9, 0.1), (0.5, 0.1), (0.6, 0.2)])
    asked: list[Validation] = []

    def score(self: Validation, vectors: Any, step: int) -> Score:
        asked.append(self)
        return Score(step, *next(figures))

    monkeypatch.setattr(Validation, "score", score)
    monkeypatch.setattr("anonymize_faces.trainer.loop.steps_between", lambda questions, batch_size: 20)
    learned = learn(denoiser, settings=dataclasses.replace(SETTINGS, held_out=0.4))
    at_once, choosing, reporting = asked
    assert at_once is choosing is not reporting and reporting.asks(True) and not reporting.asks(False)
    assert learned.best == Score(20, 0.5, 0.1)
    # So few prompts are held out that all of them choose.
    assert learned.figures == Score(20, 0.6, 0.1) and learned.prefix.record.scores["identity_signal_left"] == 0.6
    assert "40 % of the identity signal is gone, examined on 3 people it did not learn from." in describe(learned)


def test_a_run_is_examined_before_its_first_step_so_that_whoever_stops_it_knows_what_is_kept(
    denoiser: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anonymize_faces.trainer.loop.steps_between", lambda questions, batch_size: 10)
    first: list[Any] = []

    def report(progress: Any) -> None:
        first.extend([progress] if progress.steps and not first else [])

    learned = learn(denoiser, report=report, stop=lambda: bool(first))
    assert first[0].steps == 1 and first[0].score == learned.scores[0] and learned.scores[0].step == 0
    assert learned.prefix.record.steps == 2 and learned.best.step in (0, 2)
    if learned.best.step == 0:
        assert "The prefix is that of the warm start, the best there was" in describe(learned)


def test_past_somebody_of_whom_no_looks_are_told_there_is_no_goal(denoiser: Any) -> None:
    pairs = (Pair("Ada", "a woman", True), Pair("Bob", "a person", True, described=False))
    plain, past = (TargetPool(denoiser, Pictures(torch.ones(2, *denoiser.latent_shape), pairs), 1, 0) for _ in range(2))
    past.overshoot = 0.5
    with denoiser.gradients(2):
        (ada, bob), (ada_past, bob_past) = (pool.batch([0, 1]).predictions for pool in (plain, past))
    assert not torch.allclose(ada, ada_past) and torch.equal(bob, bob_past)


@pytest.mark.parametrize("share", [0.0, 0.4])
def test_negative_prompts_are_lessons_as_often_as_guidance_asks_for_them(share: float) -> None:
    names = torch.tensor([True] * 500 + [False] * 1000)
    negatives = negatives_of(names, share, seed=1)
    assert all(slot >= 500 for slot in negatives) and abs(len(negatives) - 1000 * share) < 50
    empty = sum(pair.student == "" for pair in negatives.values())
    assert abs(empty - 500 * share) < 50
    assert share == 0 or {pair.student for pair in negatives.values()} == set(NEGATIVES)
    assert Drawing(cfg=1).unconditional_share == 0 and Drawing(cfg=2).unconditional_share == 0.2


def test_learning_lowers_the_score_of_people_it_never_learns_from(
    denoiser: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As many as ever: a gate that few prompts were enough for lets people by whom nobody learned from.
    monkeypatch.setattr("anonymize_faces.trainer.data.pairs.MOST_NAMED", MOST_NAMED)
    monkeypatch.setattr("anonymize_faces.trainer.loop.steps_between", lambda questions, batch_size: 8)
    settings = dataclasses.replace(SETTINGS, steps=40, learning_rate=2e-3, vectors=6)
    learned = learn(denoiser, settings=settings)
    assert len(learned.scores) >= 2 and learned.best.total < 0.9 * learned.scores[0].total


def test_few_people_are_validated_in_other_noise_and_the_report_says_so(denoiser: Any) -> None:
    report = describe(learn(denoiser, PEOPLE[:3]))
    assert "with fewer than 8 people none is held out" in report


def test_what_is_shown_last_is_the_prefix(denoiser: Any) -> None:
    shown: list[dict[str, torch.Tensor]] = []
    learned = learn(denoiser, PEOPLE[:3], show=lambda vectors: shown.append({**vectors}))
    assert torch.equal(shown[-1]["l/offset"], learned.prefix.networks["l/offset"])


def test_showing_takes_its_share_of_the_time_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("anonymize_faces.trainer.reporting.preview.time.monotonic", lambda: clock[0])
    preview_budget = PreviewBudget(0.0, picture_seconds=0.25)
    shown: list[float] = []

    def show(vectors: Any) -> None:
        shown.append(clock[0])
        clock[0] += 2.0

    while clock[0] < 1000:
        clock[0] += 5.0
        preview_budget.show(show, {})
    assert shown[0] >= 2.0 / PREVIEW_SHARE
    assert 0.5 * PREVIEW_SHARE <= 2.0 * len(shown) / clock[0] <= PREVIEW_SHARE
