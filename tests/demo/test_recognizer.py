"""The demo's reader behind the interface of recognizers, and the figures behind its threshold."""

from __future__ import annotations

import numpy as np
import pytest

from anonymize_faces.demo.measure import draw_all
from anonymize_faces.demo.people import cast, strangers
from anonymize_faces.demo.recognizer import DemoRecognizer
from anonymize_faces.demo.renderer import picture_of, portrait, random_picture

VIEWS, STRANGERS = 3, 4


@pytest.fixture(scope="module")
def recognizer() -> DemoRecognizer:
    return DemoRecognizer()


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


def test_things_have_no_face_and_other_sizes_are_read_too(recognizer):
    rng = np.random.default_rng(3)
    things = draw_all([random_picture(rng, kind) for kind in ("circle", "house", "mountains")])
    assert recognizer.find(things) == [(), (), ()]
    person = draw_all([picture_of(rng, cast()[0], 0)])
    (face,), (large,) = recognizer.find(person)[0], recognizer.find(person.repeat(3, 1).repeat(3, 2))[0]
    assert large.box == (0.0, 0.0, 192.0, 192.0)
    assert recognizer.similarities(face.embedding[None], large.embedding[None])[0, 0] > 0.999
