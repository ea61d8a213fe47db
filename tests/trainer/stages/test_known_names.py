"""Whose portraits are nobody's in particular is told from pictures that are there, and nothing is learned of them."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch

from anonymize_faces.demo.world.people import identities
from anonymize_faces.runs.seeds import derived_seed, generator
from anonymize_faces.runs.tensor_store import TensorStore
from anonymize_faces.trainer.data.identities import Identity
from anonymize_faces.trainer.data.pairs import training_pairs
from anonymize_faces.trainer.data.pictures import identity_pairs
from anonymize_faces.trainer.data.targets import TargetPool
from anonymize_faces.trainer.presets import PRESETS, QUICK
from anonymize_faces.trainer.progress import Callbacks
from anonymize_faces.trainer.reporting.report import describe
from anonymize_faces.trainer.settings import TrainingSettings
from anonymize_faces.trainer.stages.known_names import (
    LEAST_PORTRAITS,
    MOST_NAMED,
    Knowledge,
    KnownNames,
    knowledge_of,
    sentences,
)
from anonymize_faces.trainer.training import PrefixTraining

PEOPLE = tuple(Identity(f"Person {number}", f"a man with {number} hats") for number in range(16))
GENERAL = ("", *(f"{number} red circles" for number in range(12)))
SETTINGS = TrainingSettings(
    conditional=False,
    text_steps=2,
    steps=6,
    batch_size=8,
    vectors=2,
    portraits_per_identity=3,
    noisings_per_picture=2,
    held_out=0.2,
)


def portraits(known: int, unknown: int, each: int = 4, noise: float = 1.0, side: int = 8) -> torch.Tensor:
    """Latents of people who have a face of their own in the middle, and of people who have none; all else varies."""
    made = torch.Generator().manual_seed(3)
    faces = torch.randn(known + unknown, 1, 4, side, side, generator=made).repeat(1, each, 1, 1, 1)
    faces[known:] = torch.randn(unknown, each, 4, side, side, generator=made)
    rest = torch.randn(known + unknown, each, 4, side, side, generator=made)
    inside = torch.zeros(side, side, dtype=torch.bool)
    inside[side // 4 : side - side // 4, side // 4 : side - side // 4] = True
    return torch.where(inside, faces + noise * rest, 5 * rest).flatten(0, 1)


@pytest.mark.parametrize(("each", "side"), [(3, 8), (4, 12), (6, 64)])
def test_whoever_is_drawn_as_somebody_else_each_time_is_told_from_the_others(each: int, side: int) -> None:
    found = knowledge_of(portraits(20, 6, each, side=side), range(26), each, seed=0)
    assert found.tells and set(found.unknown) <= set(range(20, 26)) and len(found.left_out) >= 3
    assert knowledge_of(portraits(20, 0, each, side=side), range(20), each, seed=0) == Knowledge(20, (), True)


def test_where_most_are_unknown_or_nothing_can_be_told_nobody_is_left_out() -> None:
    most = knowledge_of(portraits(4, 16), range(20), 4, seed=0)
    assert not most.tells and len(most.unknown) > 10 and most.left_out == ()
    assert knowledge_of(portraits(20, 0, noise=100.0), range(20), 4, seed=0).left_out == ()
    assert (
        knowledge_of(portraits(5, 2), range(7), 4, seed=0)
        == knowledge_of(portraits(10, 2, 2), range(12), 2, 0)
        == Knowledge()
    )
    assert knowledge_of(torch.zeros(40, 4, 8, 8), range(10), 4, seed=0).left_out == ()
    half = TensorStore(40, (4, 8, 8))
    for index, row in enumerate(portraits(8, 2)[:-1]):
        half.put(index, row)
    assert knowledge_of(half, range(10), 4, seed=0) == Knowledge()
    half.put(39, torch.ones(4, 8, 8))
    assert knowledge_of(half, range(10), 4, seed=0).unknown
    broken = portraits(10, 0)
    broken[3] = float("nan")
    assert knowledge_of(broken, range(10), 4, seed=0).left_out == ()


def test_names_are_examined_shard_by_shard_and_a_verdict_stays() -> None:
    latents = portraits(18, 6, 3)
    order = torch.randperm(24, generator=torch.Generator().manual_seed(5)).tolist()
    mixed = latents.reshape(24, 3, *latents.shape[1:])[order].flatten(0, 1)
    shards = [person % 3 for person in range(24)]
    drawn = TensorStore(72, (4, 8, 8))
    names, found = KnownNames(drawn, shards, 3, seed=0), list[Knowledge]()
    assert not names.examine() and names.knowledge == Knowledge()
    for shard in range(3):
        for index, row in enumerate(mixed):
            if shards[index // 3] == shard:
                drawn.put(index, row)
        assert names.examine() and not names.examine()
        found.append(names.knowledge)
    assert [knowledge.examined for knowledge in found] == [8, 16, 24]
    assert set(found[0].left_out) <= set(found[1].left_out) <= set(found[2].left_out)
    nobody = {person for person, which in enumerate(order) if which >= 18}
    assert set(found[2].left_out) <= nobody and len(found[2].left_out) >= 4
    at_once = KnownNames(drawn, shards, 3, seed=0)  # As where a run is gone on with.
    assert at_once.examine() and at_once.knowledge == found[2]


def test_the_artist_is_told_whom_the_model_does_not_know() -> None:
    assert sentences(Knowledge(16), PEOPLE, 16) == []
    assert "seem to know Person 3: it draws somebody else" in sentences(Knowledge(16, (3,)), PEOPLE, 16)[0]
    (many,) = sentences(Knowledge(16, tuple(range(8))), PEOPLE, 16)
    assert f"Person {MOST_NAMED - 1} and 2 more: " in many
    (told,) = sentences(Knowledge(16, (3,), leaves_out=False), PEOPLE, 16)
    assert told.endswith("every time. See whether the spelling is the model's.")
    assert "The portraits of most names are no more alike" in sentences(Knowledge(16, (1, 2), False), PEOPLE, 16)[0]
    assert sentences(Knowledge(16), PEOPLE, 25) == [
        "Names of 9 more were not examined: no portraits of them were drawn."
    ]
    assert sentences(Knowledge(), PEOPLE, 25) == [
        "It was not examined whether the model knows the names: that takes 3 portraits of each of 8 people."
    ]


@pytest.mark.parametrize("count", [16, 40], ids=["one shard", "four shards"])
def test_nothing_is_learned_from_a_name_that_is_left_out(
    count: int, make_checkpoint: Callable[..., Any], make_denoiser: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    everybody = tuple(Identity(f"Person {number}", f"a man with {number} hats") for number in range(count))
    settings = dataclasses.replace(SETTINGS, steps=30 * count // 16)
    training = PrefixTraining(make_denoiser(make_checkpoint()), everybody, GENERAL, settings)
    people = training.held_out.learned.people
    nobody = (0, len(people) - 1)
    names = [people[index].name for index in nobody]
    monkeypatch.setattr(
        "anonymize_faces.trainer.stages.known_names.knowledge_of",
        lambda latents, who, *rest: Knowledge(len(who), tuple(person for person in who if person in nobody)),
    )
    asked: list[str] = []
    batch = TargetPool.batch

    def listening(self: TargetPool, slots: Any) -> Any:
        made = batch(self, slots)
        asked.extend(made.prompts)
        return made

    monkeypatch.setattr(TargetPool, "batch", listening)
    told: list[tuple[str, ...]] = []
    with torch.inference_mode():
        learned = training.learn(Callbacks(lambda progress: told.append(tuple(progress.notes))))

    def name_them(prompts: Any, names: Any = names) -> list[str]:
        return [prompt for prompt in prompts if any(re.search(rf"{name}\b", prompt) for name in names)]

    assert name_them(asked) == []
    for index, person in enumerate(people):
        assert index in nobody or name_them(asked, [person.name])
    assert learned.prefix.record.identities == len(people) - 2
    assert f"seem to know {names[0]}, {names[1]}: " in describe(learned)
    assert told[-1] == learned.notes[:1] and told[0] == ()

    pairs = training_pairs(training.held_out, settings)
    left = pairs.learned_of(nobody)
    assert len(left) == 6 and len(name_them(pairs.learned[index].student for index in left)) == 6
    spoken = pairs.spoken_without(nobody)
    assert len(pairs.spoken) - len(spoken) == 8 and name_them(pair.student for pair in spoken) == []
    assert len(name_them(pair.student for pair in pairs.spoken)) == 8


def test_a_network_is_learned_from_names_that_the_model_does_not_seem_to_know(
    make_checkpoint: Callable[..., Any], make_denoiser: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "anonymize_faces.trainer.stages.known_names.knowledge_of", lambda latents, who, *rest: Knowledge(len(who), (0,))
    )
    settings = dataclasses.replace(SETTINGS, conditional=True, steps=1)
    training = PrefixTraining(make_denoiser(make_checkpoint()), PEOPLE, GENERAL, settings)
    people = training.held_out.learned.people
    with torch.inference_mode():
        learned = training.learn()
    assert f"seem to know {people[0].name}: " in describe(learned)
    assert learned.prefix.record.identities == len(people)


@pytest.mark.parametrize("preset", PRESETS)
def test_each_preset_examines_the_names_that_it_draws_or_says_that_it_did_not(
    preset: str, make_checkpoint: Callable[..., Any], make_denoiser: Callable[..., Any]
) -> None:
    few = {"steps": 1, "text_steps": 1, "general_drawn": 4, "noisings_per_picture": 1, "vectors": 2}
    settings = TrainingSettings(preset=preset, conditional=False, **few)
    training = PrefixTraining(make_denoiser(make_checkpoint()), PEOPLE, GENERAL, settings)
    with torch.inference_mode():
        learned = training.learn()
    is_examined = not any("It was not examined" in note for note in learned.notes)
    assert is_examined == (settings.portraits_per_identity >= LEAST_PORTRAITS) == (preset != QUICK)
    assert is_examined or learned.prefix.record.identities == len(training.held_out.learned.people)


@pytest.mark.slow
def test_on_the_demo_model_names_of_nobody_are_found_and_people_of_its_world_are_not(host_modules: None) -> None:
    from anonymize_faces.demo.loader import load_demo_model
    from anonymize_faces.engines.automatic import usual_drawing_of
    from anonymize_faces.engines.comfy.denoiser import ComfyDenoiser
    from anonymize_faces.engines.options import Drawing

    with torch.inference_mode():
        model, clip, vae = load_demo_model()
    usual = usual_drawing_of(model)
    denoiser = ComfyDenoiser(model, clip, vae, usual.size(0, 0), usual.drawing(Drawing(10, 0.0)))
    known = identities()[:12]
    nobody = ["Peter Miller", "Wei Chen", "Olga Petrova"]
    people = [*known, *(Identity(name, known[0].description) for name in nobody)]
    pairs = identity_pairs(people, 4, generator(1, "choices"))
    seeds = [derived_seed(1, "picture", index) for index in range(len(pairs))]
    with torch.inference_mode():
        latents = denoiser.sample([pair.student for pair in pairs], seeds)
    found = knowledge_of(latents, range(len(people)), 4, seed=1)
    print(f"left out: {[people[index].name for index in found.left_out]} of {nobody}")
    assert found.tells and not set(found.left_out) & set(range(len(known)))
    assert len(found.left_out) >= 1
