"""Pictures come in shards: learning begins with a part of them, and no step asks for one that is not there."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch

from anonymize_faces.tests.support.learning_checks import learning
from anonymize_faces.tests.support.prefixes import numbers
from anonymize_faces.trainer.data.identities import Identity
from anonymize_faces.trainer.data.pictures import Pair, Pictures
from anonymize_faces.trainer.data.shards import come_to, shards_of
from anonymize_faces.trainer.data.targets import TargetPool, named_before, slots_of_step
from anonymize_faces.trainer.plan import Plan
from anonymize_faces.trainer.progress import Callbacks
from anonymize_faces.trainer.settings import TrainingSettings
from anonymize_faces.trainer.stages.known_names import LEAST_PEOPLE, LEAST_PORTRAITS
from anonymize_faces.trainer.training import PrefixTraining

Make = Callable[..., Any]
PAIRS = tuple(Pair(f"{number}", f"{number}", number % 3 == 0) for number in range(30))
PEOPLE = tuple(Identity(f"Ada {chr(65 + n)}lpha", "a woman with dark hair") for n in range(9))
GENERAL = ("", "a red circle", *(f"{n} dogs" for n in range(10)))


@pytest.fixture
def denoiser(make_checkpoint: Make, make_denoiser: Make) -> Any:
    return make_denoiser(make_checkpoint())


@pytest.mark.parametrize("shards", [1, 3, 4])
def test_a_shard_has_its_share_of_either_kind(shards: int) -> None:
    found = shards_of(PAIRS, shards)
    for kind in (True, False):
        mine = [shard for shard, pair in zip(found, PAIRS, strict=True) if pair.names_somebody is kind]
        counts = [mine.count(shard) for shard in range(shards)]
        assert sum(counts) == len(mine) and max(counts) - min(counts) <= 1


@pytest.mark.parametrize(("people", "portraits", "shards"), [(40, 3, 4), (20, 3, 2), (9, 4, 1), (3, 3, 1), (9, 2, 4)])
def test_portraits_that_tell_whom_the_model_knows_come_together_and_enough_people_at_once(
    people: int, portraits: int, shards: int
) -> None:
    pairs = [Pair(f"{person}", "", True) for person in range(people) for _ in range(portraits)]
    found = shards_of([*pairs, *PAIRS[1:3]], 4, portraits)[: len(pairs)]
    assert set(found) == set(range(shards))
    if portraits >= LEAST_PORTRAITS:
        assert len({(pair.student, shard) for pair, shard in zip(pairs, found, strict=True)}) == people
        assert shards == 1 or min(found.count(shard) for shard in range(shards)) >= LEAST_PEOPLE * portraits


def test_what_is_left_out_is_dealt_to_others_as_drawn_as_it_is_and_all_else_stays(denoiser: Any) -> None:
    shards = shards_of(PAIRS, 3)
    pool = TargetPool(
        denoiser, Pictures(torch.zeros(len(PAIRS), *denoiser.latent_shape), PAIRS), 3, seed=1, shards=shards
    )
    before = slots_of_step(pool, 6, 1, 0, 60)
    whole_shard = [index for index, pair in enumerate(PAIRS) if pair.names_somebody and shards[index] == 2]
    out = {0, *whole_shard}
    pool.leave_out(out)
    after = slots_of_step(pool, 6, 1, 0, 60)
    for old, new in zip(before, after, strict=True):
        mine, its = old // 3, new // 3
        assert (mine == its) == (mine not in out) and its not in out and old % 3 == new % 3
        assert PAIRS[mine].names_somebody is PAIRS[its].names_somebody and shards[its] <= shards[mine]


@pytest.mark.parametrize("shards", [1, 2, 4])
def test_the_first_round_goes_through_the_shards_and_later_ones_through_everything(shards: int, denoiser: Any) -> None:
    noisings, batch = 3, 5
    pictures = Pictures(torch.zeros(len(PAIRS), *denoiser.latent_shape), PAIRS)
    of_pairs = shards_of(PAIRS, shards)
    pool = TargetPool(denoiser, pictures, noisings, seed=1, shards=of_pairs)
    steps = 40
    dealt = [slots_of_step(pool, batch, 1, step) for step in range(steps)]
    assert sorted(dealt[7] + dealt[8]) == sorted(slots_of_step(pool, batch, 1, 7, 2))
    for made in (1, 4, 9, steps):
        so_far = [slot for slots in dealt[:made] for slot in slots]
        named = named_before(made, batch)
        told = [
            index
            for kind, count in ((True, named), (False, made * batch - named))
            for index in come_to(PAIRS, of_pairs, noisings, count, kind)
        ]
        assert sorted(told) == pool.pictures(so_far)
        assert {slot // noisings for slot in so_far} <= set(told)
    for kind in (True, False):
        slots = pool.slots(kind).tolist()
        mine = [slot for slots_of in dealt for slot in slots_of if PAIRS[slot // noisings].names_somebody is kind]
        first, second = mine[: len(slots)], mine[len(slots) : 2 * len(slots)]
        assert sorted(first) == slots and len(set(second)) == len(second)
        order = [int(pool.shards[slot]) for slot in first]
        assert order == sorted(order)


def test_learning_begins_with_a_part_of_the_pictures_and_what_no_step_comes_to_is_never_drawn(denoiser: Any) -> None:
    settings = dataclasses.replace(
        learning(), steps=12, batch_size=4, portraits_per_identity=2, noisings_per_picture=2, held_out=0.34, shards=4
    )
    sample, drawn, at_first_step, plans = denoiser.sample, [0], list[int](), list[Plan]()
    done: list[int] = []

    def counted(prompts: Any, *arguments: Any) -> Any:
        drawn[0] += len(prompts)
        return sample(prompts, *arguments)

    def report(progress: Any) -> None:
        done.append(progress.done)
        if progress.steps == 1 and not at_first_step:
            at_first_step.append(drawn[0])

    denoiser.sample = counted
    training = PrefixTraining(denoiser, PEOPLE, GENERAL, settings)
    training.learn(Callbacks(report, plan=plans.append))
    learned, asked = training.held_out.learned, training.held_out.choosing
    questions = 2 * len(asked.people) + len(asked.prompts)
    assert at_first_step[0] - questions < 0.4 * (2 * len(learned.people) + len(learned.prompts))
    assert drawn[0] == plans[0].pictures
    assert done == sorted(done), "it never falls back"


def test_all_pictures_first_and_in_shards_are_the_same_pictures(denoiser: Any) -> None:
    found = []
    for shards in (1, 3):
        settings = dataclasses.replace(
            learning(conditional=False),
            steps=12,  # Enough to come to all pictures.
            batch_size=4,
            portraits_per_identity=1,
            noisings_per_picture=1,
            shards=shards,
        )
        sample, drawn = denoiser.sample, {}

        def kept(prompts: Any, seeds: Any, *arguments: Any, sample: Any = sample, drawn: Any = drawn) -> Any:
            made = sample(prompts, seeds, *arguments)
            drawn.update(zip(zip(prompts, seeds, strict=True), made, strict=True))
            return made

        denoiser.sample = kept
        PrefixTraining(denoiser, PEOPLE, GENERAL, settings).learn()
        denoiser.sample = sample
        found.append(drawn)
    first, second = found
    assert all(any(person.name in prompt for prompt, _ in first) for person in PEOPLE)
    assert first.keys() == second.keys()
    for key, latent in first.items():
        torch.testing.assert_close(latent, second[key], rtol=1e-4, atol=1e-4)


def test_text_only_draws_what_validation_asks_about_and_asks_the_denoiser_for_nothing_else(denoiser: Any) -> None:
    settings = dataclasses.replace(learning(), text_steps=3, held_out=0.34, text_only=True)
    predict, predicted = denoiser.predict, list[bool]()

    def noted(noised: torch.Tensor, *arguments: Any) -> Any:
        made = predict(noised, *arguments)
        if noised.any():
            predicted.append(made.requires_grad)
        return made

    denoiser.predict = noted
    plans: list[Plan] = []
    training = PrefixTraining(denoiser, PEOPLE, GENERAL, settings)
    learned = training.learn(Callbacks(plan=plans.append))
    assert not any(predicted) and learned.history == ()
    assert [score.step for score in learned.scores] == [0] and learned.prefix.record.steps == 0
    held_out = training.held_out
    assert plans[0].pictures == 2 * len(held_out.people) + sum(
        len(some.prompts) for some in (held_out.choosing, held_out.reporting)
    )
    assert plans[0].evaluations.learning == plans[0].evaluations.teaching == 0


def test_pictures_that_name_nobody_are_drawn_once_for_a_model_and_the_prefix_is_the_same(
    denoiser: Any, tmp_path: Path
) -> None:
    settings = dataclasses.replace(
        learning(conditional=False),
        steps=12,
        batch_size=4,
        portraits_per_identity=1,
        noisings_per_picture=2,
        held_out=0.34,
    )
    sample, drawn = denoiser.sample, list[str]()

    def noted(prompts: Any, *arguments: Any) -> Any:
        drawn.extend(prompts)
        return sample(prompts, *arguments)

    denoiser.sample = noted
    found, prompts, planned = [], [], []
    for pictures in (None, tmp_path, tmp_path):
        drawn.clear()
        training = PrefixTraining(denoiser, PEOPLE, GENERAL, settings, pictures=pictures)
        found.append(numbers(training.learn(Callbacks(plan=lambda plan: planned.append(plan.pictures))).prefix))
        prompts.append(list(drawn))
    assert planned == [len(some) for some in prompts]
    names = [person.name for person in PEOPLE]
    assert prompts[0] == prompts[1] and all(any(name in prompt for name in names) for prompt in prompts[2])
    assert any("Ada" not in prompt for prompt in prompts[0])
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


@pytest.mark.parametrize("batch", [1, 5, 8])
def test_seven_eighths_of_a_batch_name_somebody_where_vectors_are_made_for_each_prompt(
    batch: int, denoiser: Any
) -> None:
    share = TrainingSettings(conditional=True).named_share
    assert TrainingSettings(conditional=False).named_share == Fraction(1, 2)
    pool = TargetPool(denoiser, Pictures(torch.zeros(len(PAIRS), *denoiser.latent_shape), PAIRS), 3, seed=1)
    steps = 8
    kinds = [
        [PAIRS[slot // 3].names_somebody for slot in slots_of_step(pool, batch, 1, step, named_share=share)]
        for step in range(steps)
    ]
    assert [len(of_step) for of_step in kinds] == [batch] * steps
    assert sum(map(sum, kinds)) == named_before(steps, batch, share) == 7 * batch
    assert all(of_step == sorted(of_step, reverse=True) for of_step in kinds)
