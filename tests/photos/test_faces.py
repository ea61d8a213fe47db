"""Holds what is told of photos without a face, with several, and where nobody can look."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from anonymize_faces.faces.facenet import load_mtcnn
from anonymize_faces.faces.recognizer import Finder
from anonymize_faces.photos.faces import told_of_faces
from anonymize_faces.prefix.errors import MeasurementError


@contextmanager
def mtcnn() -> Iterator[Finder]:
    yield load_mtcnn(lambda network: None)


@contextmanager
def missing() -> Iterator[Finder]:
    raise MeasurementError("facenet-pytorch is missing: run install.py.")
    yield


def told(photos: Sequence[np.ndarray]) -> str:
    return " ".join(told_of_faces(mtcnn, photos))


def test_photos_without_a_face_and_with_several_are_told_by_their_numbers(astronaut: np.ndarray) -> None:
    """A real photograph, the same twice beside itself, and two in which there is nobody, of four sizes."""
    beside, grey = np.concatenate([astronaut, astronaut], 1), np.full((40, 64, 3), 90, np.uint8)
    said = told([astronaut, beside, grey, np.zeros((300, 200, 3), np.uint8)])
    assert "No face was found in photos 3 and 4: " in said and "Several faces are in photo 2: " in said
    assert told([astronaut]) == ""


def test_where_nobody_can_look_that_is_told_and_photos_are_protected(astronaut: np.ndarray) -> None:
    (said,) = told_of_faces(missing, [astronaut])
    assert said.startswith("Nobody looked") and said.endswith("run install.py.")
