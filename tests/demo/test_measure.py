"""The ruler: reader, gallery and figures, on fresh renders."""

from __future__ import annotations

import numpy as np
import pytest

from anonymize_faces.demo.measure import (
    RenderGallery,
    face_retention,
    identification_rate,
    looks_kept,
    picture_distance,
    preservation,
)
from anonymize_faces.demo.reader import ReaderNet, Reading, read
from anonymize_faces.demo.world.people import cast, cast_looks, random_geometry
from anonymize_faces.demo.world.renderer import KINDS, draw_all, picture_of, portrait, random_picture


def test_the_gallery_holds_the_cast_and_a_hundred_strangers_for_each(gallery: RenderGallery) -> None:
    assert len(gallery.embeddings) == 64 * 101


def test_the_reader_finds_people_and_their_looks_in_fresh_renders(reader: ReaderNet, gallery: RenderGallery) -> None:
    rng = np.random.default_rng(123)
    who = [i for i in range(64) for _ in range(4)]
    reading = read(reader, draw_all([picture_of(rng, cast()[i], i) for i in who]))
    assert identification_rate(reading, who, gallery) >= 0.97
    assert looks_kept(reading, [cast()[i].looks for i in who]) >= 0.97
    assert face_retention(reading) == 1.0


def test_strangers_of_the_same_looks_are_not_taken_for_the_cast(reader: ReaderNet, gallery: RenderGallery) -> None:
    rng = np.random.default_rng(7)
    who = [4 * g + m for g in range(16) for m in range(4)]
    faces = [portrait(rng, cast_looks()[i // 4], tuple(map(float, random_geometry(rng, 1)[0]))) for i in who]
    assert identification_rate(read(reader, draw_all(faces)), who, gallery) <= 0.05


def test_things_have_no_face(reader: ReaderNet) -> None:
    rng = np.random.default_rng(8)
    things = [random_picture(rng, kind) for kind in KINDS[1:] for _ in range(10)]
    assert face_retention(read(reader, draw_all(things))) <= 0.02


def test_identification_counts_who_is_nearest_in_the_whole_gallery() -> None:
    gallery = RenderGallery(np.eye(4, dtype=np.float32))
    reading = Reading(np.ones(3, bool), np.eye(4, dtype=np.float32)[[0, 3, 1]], (cast_looks()[0],) * 3)
    assert identification_rate(reading, [0, 1, 1], gallery) == pytest.approx(2 / 3)


def test_preservation_is_nothing_for_equal_pictures_and_one_for_what_noise_does() -> None:
    rng = np.random.default_rng(0)
    plain, other = rng.integers(0, 255, (2, 5, 64, 64, 3), dtype=np.uint8)
    assert preservation(plain, plain, other) == 0
    assert preservation(plain, other, other) == 1
    assert picture_distance(np.zeros((1, 2, 2, 3), np.uint8), np.full((1, 2, 2, 3), 255, np.uint8)) == pytest.approx(1)
