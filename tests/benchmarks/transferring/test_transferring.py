"""Shows what other checkpoints and personalized copies are made of, and that they draw with what was learned."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from anonymize_faces.benchmarks.support.strangers import stranger
from anonymize_faces.benchmarks.transferring import checkpoints as made
from anonymize_faces.benchmarks.transferring import taught as teaching
from anonymize_faces.benchmarks.transferring.demo import ClassicDemo, drawn
from anonymize_faces.benchmarks.transferring.personalized import NAMES, ClassPictures
from anonymize_faces.demo.measuring.measure import identification_rate
from anonymize_faces.demo.measuring.reader import ReaderNet, read
from anonymize_faces.demo.world.language import vocabulary
from anonymize_faces.demo.world.names import STRANGER_FIRST, STRANGER_LAST
from anonymize_faces.demo.world.people import THING_PROMPTS, cast
from anonymize_faces.demo.world.renderer import draw, picture_of
from anonymize_faces.demo.world.scenery import COLOURS
from anonymize_faces.demo.world.things import OBJECTS
from anonymize_faces.engines.denoiser import FULL
from anonymize_faces.engines.vectors import gates_of
from anonymize_faces.faces.gallery import Gallery
from anonymize_faces.finetuning.loop import finetuned
from anonymize_faces.finetuning.settings import FinetuningSettings
from anonymize_faces.finetuning.training_set import training_set_of
from anonymize_faces.photos.attack import scores_of
from anonymize_faces.prefix.meta_network import is_learned
from anonymize_faces.tests.support.conditional import conditional
from anonymize_faces.tests.support.prefixes import random_prefix


@pytest.fixture(scope="module")
def demo(host_modules: None) -> ClassicDemo:
    return ClassicDemo()


def test_people_in_the_other_style_are_still_themselves_and_look_another(reader: ReaderNet, gallery: Gallery) -> None:
    rng = np.random.default_rng(5)
    people = range(0, 64, 4)
    plain = np.stack([draw(picture_of(rng, cast()[index], index)) for index in people])
    styled = np.stack([made.styled(picture) for picture in plain])
    assert np.abs(styled.astype(int) - plain).mean() > 5
    assert identification_rate(read(reader, styled), list(people), gallery) >= 0.9


def test_things_are_in_colours_that_the_model_never_saw(reader: ReaderNet) -> None:
    pictures = made.thing_pictures(12)
    words = [caption.removeprefix("a picture of a ").split()[:2] for _, caption in pictures]
    assert not {colour for colour, _ in words} & set(COLOURS)
    assert {kind for _, kind in words} <= set(OBJECTS)
    assert not read(reader, np.stack([pixels for pixels, _ in pictures])).face.any()


def test_new_names_are_nobodys_in_the_demos_world() -> None:
    known = {word for phrase in vocabulary() for word in phrase.casefold().split()}
    assert not known & {word.casefold() for name in NAMES for word in name.split()}
    assert known >= {word.casefold() for word in (*STRANGER_FIRST, *STRANGER_LAST)}


def test_strangers_are_always_the_same_and_found_in_their_photos(demo: ClassicDemo) -> None:
    one, again = stranger(demo.recognizer, 2), stranger(demo.recognizer, 2)
    assert np.array_equal(one.photos, again.photos) and one.looks == again.looks
    _, _, first = scores_of(demo.recognizer, one.photos, one.person)
    assert first.all()


def test_a_checkpoint_draws_what_the_fine_tuned_model_drew(demo: ClassicDemo) -> None:
    """Weights that are added to the original's, and loaded as those of a model of its own."""
    picture = torch.from_numpy(made.style_pictures(1)[0][0].copy()).float() / 255
    training_set = training_set_of(demo.denoiser, [picture], ["a red cup"])
    before = drawn(demo.denoiser, ["a red cup"], [3])
    assert np.array_equal(drawn(demo.with_weights(demo.weights), ["a red cup"], [3]), before)
    with finetuned(demo.denoiser, training_set, FinetuningSettings(steps=2)) as tuned:
        after = drawn(tuned.denoiser, ["a red cup"], [3])
        added = made.added_by_name(demo.weights, tuned.weights)
    weights = {key: weight + added[key] if key in added else weight for key, weight in demo.weights.items()}
    assert np.abs(drawn(demo.with_weights(weights), ["a red cup"], [3]).astype(int) - after).max() <= 1
    assert not np.array_equal(after, before)


def test_an_embedding_stands_behind_the_prefix(demo: ClassicDemo) -> None:
    embedding = {"l": 0.05 * torch.randn(4, 192, generator=torch.Generator().manual_seed(0))}
    prefix = random_prefix({"l": 192}, 2, 1).parameters
    alone = demo.draw_with_embedding(["a person"], [1], embedding)
    behind = demo.draw_with_embedding(["a person"], [1], embedding, prefix)
    without = drawn(demo.denoiser, ["a person"], [1])
    assert not np.array_equal(alone, behind) and not np.array_equal(alone, without)


def test_gates_that_take_any_name_for_one_open_for_new_names_and_hardly_for_most_things(demo: ClassicDemo) -> None:
    from anonymize_faces.benchmarks.transferring.gates import with_any_name

    prefix: Any = conditional(demo.clip, random_prefix({"l": 192}, 2, 0))
    parameters = with_any_name(demo.denoiser, prefix.parameters)
    changed = {name for name, tensor in parameters.items() if not torch.equal(tensor, prefix.parameters[name])}
    assert {name.partition("/")[2] for name in changed} == {"detector", "threshold"}
    with demo.denoiser.gradients(1):
        names = gates_of(demo.denoiser, parameters, [f"a photo of {name}" for name in NAMES])
        things = gates_of(demo.denoiser, parameters, THING_PROMPTS)
    assert np.mean(names) > 0.6 and np.median(things) < 0.1


def test_a_prefix_goes_on_learning_on_copies_of_others(demo: ClassicDemo, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is learned of it changes, its gates do not, and the original answers as before."""
    for number in ("PORTRAITS", "NOISINGS", "GENERAL", "ROUND"):
        monkeypatch.setattr(teaching, number, 2)
    parameters = conditional(demo.clip, random_prefix({"l": 192}, 4, 0)).parameters
    photos = stranger(demo.recognizer, 0).photos
    beside = ClassPictures([torch.from_numpy(photos[0].copy()).float() / 255], ["a photo of a person"])
    before = demo.denoiser.sample(["a red circle"], [1])
    after = teaching.taught(demo, parameters, beside, {FULL: 2}, copies=(FULL,), rounds=1)
    assert {name for name, part in after.items() if not torch.equal(part, parameters[name])} == {
        name for name in parameters if is_learned(name)
    }
    assert torch.equal(demo.denoiser.sample(["a red circle"], [1]), before)
