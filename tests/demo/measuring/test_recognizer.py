"""The demo's reader behind the interface of recognizers, and the figures behind its threshold."""

from __future__ import annotations

import numpy as np
import pytest

from anonymize_faces.demo.measuring.reader import ReaderNet
from anonymize_faces.demo.measuring.recognizer import DemoRecognizer
from anonymize_faces.demo.world.people import HAIR, cast, strangers
from anonymize_faces.demo.world.renderer import draw_all, picture_of, portrait, random_picture
from anonymize_faces.faces.gallery import Gallery
from anonymize_faces.faces.recognizer import Knows, SeesLooks
from anonymize_faces.faces.scoring import ranks_first

VIEWS, STRANGERS = 3, 4


@pytest.fixture(scope="module")
def recognizer(reader: ReaderNet, gallery: Gallery) -> DemoRecognizer:
    """Its gallery is made already."""
    return DemoRecognizer(reader)


def test_the_threshold_tells_a_person_from_strangers_of_the_same_looks(recognizer):
    rng = np.random.default_rng(5)
    pictures = [picture_of(rng, person, index) for index, person in enumerate(cast()) for _ in range(VIEWS)]
    looks, geometry = strangers()
    step = len(looks) // len(cast())
    some = [index * step + n for index in range(len(cast())) for n in range(STRANGERS)]
    pictures += [portrait(rng, looks[n], tuple(map(float, geometry[n]))) for n in some]
    found = recognizer.find(draw_all(pictures))
    assert all(len(faces) == 1 for faces in found)
    embeddings = np.stack([face.embedding for (face,) in found])
    people = embeddings[: len(cast()) * VIEWS].reshape(len(cast()), VIEWS, -1)
    others = embeddings[len(cast()) * VIEWS :].reshape(len(cast()), STRANGERS, -1)
    same = np.concatenate([recognizer.similarities(p, p)[np.triu_indices(VIEWS, 1)] for p in people])
    alike = np.concatenate([recognizer.similarities(p, o).ravel() for p, o in zip(people, others, strict=True)])
    assert (same >= recognizer.threshold.value).mean() >= 0.995
    assert (alike < recognizer.threshold.value).mean() >= 0.995


def test_things_and_plain_pictures_have_no_face_and_other_sizes_are_read_too(recognizer):
    rng = np.random.default_rng(3)
    things = draw_all([random_picture(rng, kind) for kind in ("circle", "house", "mountains")])
    assert recognizer.find(things) == [(), (), ()]
    plain = np.full((256, 96, 96, 3), np.arange(256, dtype=np.uint8)[:, None, None, None])
    assert set(recognizer.find(plain)) == {()}
    person = draw_all([picture_of(rng, cast()[0], 0)])
    (face,), (large,) = recognizer.find(person)[0], recognizer.find(person.repeat(3, 1).repeat(3, 2))[0]
    assert large.box == (0.0, 0.0, 288.0, 288.0)
    assert recognizer.similarities(face.embedding[None], large.embedding[None])[0, 0] > 0.999


def test_it_knows_the_cast_by_name_among_strangers_of_the_same_looks(recognizer):
    names = ["Nobody Known", cast()[9].name.upper(), cast()[30].name]
    known = recognizer.gallery(names)
    assert isinstance(recognizer, Knows) and known.missing(3) == [0]
    assert len(known.people) == 64 * 101 and known.strangers == len(known.people) - 2
    rng = np.random.default_rng(11)
    people = np.repeat([1, 2], 8)
    faces = recognizer.find(draw_all([picture_of(rng, cast()[who], who) for who in (9, 30) for _ in range(8)]))
    alike = recognizer.similarities(np.stack([face.embedding for (face,) in faces]), known.embeddings)
    assert ranks_first(alike, known.people, people).mean() >= 0.9
    assert not ranks_first(alike, known.people, 3 - people).any()
    assert not len(recognizer.gallery(["Nobody Known"]).people)


def test_it_counts_the_looks_that_a_description_names(recognizer):
    rng = np.random.default_rng(12)
    who = [0, 20, 40, 60]
    pictures = draw_all([picture_of(rng, cast()[index], index) for index in who])
    told = [cast()[index].looks.describe() for index in who]
    assert isinstance(recognizer, SeesLooks)
    assert recognizer.looks_kept(pictures, told) == [(4, 4)] * 4
    assert recognizer.looks_kept(pictures, ["a person"] * 4) == [(0, 0)] * 4
    other = [kind for kind in HAIR if kind != cast()[0].looks.hair]
    assert recognizer.looks_kept(pictures[:1], [f"a person with {other[0]} hair and glasses"]) == [(0, 2)]
