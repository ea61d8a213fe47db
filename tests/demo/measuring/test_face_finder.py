"""The demo's face finder against the truth: renders of people and things that it never saw."""

from __future__ import annotations

import numpy as np
import pytest

from anonymize_faces.benchmarks.face_region import _distances, _masks
from anonymize_faces.demo.measuring.face_finder import DemoFaceFinder
from anonymize_faces.demo.world.face import face_box
from anonymize_faces.demo.world.renderer import KINDS, SIZE, draw, random_picture


@pytest.fixture(scope="module")
def people() -> list:
    rng = np.random.default_rng(4321)
    return [random_picture(rng, "person") for _ in range(12)]


def overlap(one, other) -> float:
    inside = [max(0.0, min(one[k + 2], other[k + 2]) - max(one[k], other[k])) for k in (0, 1)]
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return inside[0] * inside[1] / (sum(areas) - inside[0] * inside[1])


def test_it_finds_faces_where_they_were_drawn(people):
    found = DemoFaceFinder().find(np.stack([draw(picture) for picture in people]))
    overlaps = [
        overlap([edge / SIZE for edge in faces[0].box], face_box(picture.geometry, picture.jitter))
        for faces, picture in zip(found, people, strict=True)
        if faces
    ]
    assert len(overlaps) >= 11 and min(overlaps) > 0.75 and np.mean(overlaps) > 0.88


def test_it_finds_none_where_nobody_was_drawn():
    rng = np.random.default_rng(5)
    things = np.stack([draw(random_picture(rng, kind)) for kind in KINDS[1:9]])
    assert sum(map(bool, DemoFaceFinder().find(things))) == 0


def test_pictures_of_another_size_are_measured_in_their_own_pixels(people):
    picture = draw(people[0])
    large = picture.repeat(2, 0).repeat(2, 1)
    ((face,),), ((twice,),) = (DemoFaceFinder().find(one[None]) for one in (picture, large))
    np.testing.assert_allclose(np.array(twice.box), 2 * np.array(face.box), rtol=1e-3)


def test_what_moves_outside_of_faces_is_told_from_what_moves_inside(people):
    pictures = np.stack([draw(picture) for picture in people[:2]])
    masks = _masks(pictures)
    moved = pictures.copy()
    moved[masks > 0] ^= 64
    assert 0.3 < masks.mean() < 0.8
    assert _distances(pictures, moved, 1 - masks) == 0 and _distances(pictures, moved, masks) > 0.1
