"""The ruler: reader, gallery and figures, on fresh renders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from anonymize_faces.demo.measuring import measure
from anonymize_faces.demo.measuring.measure import (
    face_retention,
    gallery_pictures,
    identification_rate,
    looks_kept,
    picture_distance,
    preservation,
    write_gallery,
)
from anonymize_faces.demo.measuring.reader import ReaderNet, Reading, read
from anonymize_faces.demo.measuring.recognizer import DemoRecognizer
from anonymize_faces.demo.world.people import cast, cast_looks, random_geometry
from anonymize_faces.demo.world.renderer import KINDS, draw_all, picture_of, portrait, random_picture
from anonymize_faces.faces.gallery import STRANGER, Gallery


def test_the_gallery_holds_the_cast_and_a_hundred_strangers_for_each(gallery: Gallery) -> None:
    assert len(gallery.embeddings) == 64 * 101 and gallery.strangers == 64 * 100
    assert gallery.people[:64].tolist() == list(range(64))


def test_the_kept_gallery_is_what_its_reader_sees_and_that_of_another_is_not_taken(
    reader: ReaderNet, gallery: Gallery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    some = gallery_pictures()[::100]
    np.testing.assert_allclose(gallery.embeddings[::100], read(reader, draw_all(some)).embeddings, rtol=0, atol=1e-3)
    monkeypatch.setattr(measure, "gallery_pictures", lambda: some)
    file = tmp_path / "gallery.safetensors"
    assert measure._kept_embeddings(reader, file) is None
    write_gallery(reader, file)
    np.testing.assert_array_equal(measure._kept_embeddings(reader, file), read(reader, draw_all(some)).embeddings)
    other = ReaderNet()
    assert measure._kept_embeddings(other, file) is None
    monkeypatch.setattr(measure, "gallery_pictures", lambda: some[1:])
    assert measure._kept_embeddings(reader, file) is None


def test_the_reader_finds_people_and_their_looks_in_fresh_renders(reader: ReaderNet, gallery: Gallery) -> None:
    rng = np.random.default_rng(123)
    who = [i for i in range(64) for _ in range(4)]
    reading = read(reader, draw_all([picture_of(rng, cast()[i], i) for i in who]))
    assert identification_rate(reading, who, gallery) >= 0.97
    assert looks_kept(reading, [cast()[i].looks for i in who]) >= 0.97
    assert face_retention(reading) == 1.0


def test_strangers_of_the_same_looks_are_not_taken_for_the_cast(reader: ReaderNet, gallery: Gallery) -> None:
    rng = np.random.default_rng(7)
    who = [4 * g + m for g in range(16) for m in range(4)]
    faces = [portrait(rng, cast_looks()[i // 4], tuple(map(float, random_geometry(rng, 1)[0]))) for i in who]
    assert identification_rate(read(reader, draw_all(faces)), who, gallery) <= 0.05


def test_things_have_no_face(reader: ReaderNet) -> None:
    rng = np.random.default_rng(8)
    things = [random_picture(rng, kind) for kind in KINDS[1:] for _ in range(10)]
    assert face_retention(read(reader, draw_all(things))) <= 0.02


def test_identification_counts_who_ranks_first_by_cosine_and_needs_a_face() -> None:
    gallery = Gallery(np.diag([1, 1, 1, 9]).astype(np.float32), np.array([0, 1, STRANGER, STRANGER]), "")
    seen = np.array([[1, 0, 0, 0.3], [0, 0, 0, 1], [0, 0.1, 0, 0], [0, 1, 0, 0]], np.float32)
    reading = Reading(np.array([True, True, True, False]), seen, (cast_looks()[0],) * 4)
    assert identification_rate(reading, [0, 1, 1, 1], gallery) == 0.5


def test_the_recognizer_ranks_in_the_very_gallery_of_the_report_whoever_is_named(
    reader: ReaderNet, gallery: Gallery
) -> None:
    known = DemoRecognizer(reader).gallery(["Nobody Known", cast()[9].name])
    assert known.embeddings is gallery.embeddings and known.missing(2) == [0]
    assert np.flatnonzero(known.people == 1).tolist() == [9] and known.strangers == len(gallery.people) - 1


def test_preservation_is_nothing_for_equal_pictures_and_one_for_what_noise_does() -> None:
    rng = np.random.default_rng(0)
    plain, other = rng.integers(0, 255, (2, 5, 64, 64, 3), dtype=np.uint8)
    assert preservation(plain, plain, other) == 0
    assert preservation(plain, other, other) == 1
    assert picture_distance(np.zeros((1, 2, 2, 3), np.uint8), np.full((1, 2, 2, 3), 255, np.uint8)) == pytest.approx(1)
