"""Finders of faces that look at nothing."""

from __future__ import annotations

import numpy as np

from anonymize_faces.faces.recognizer import FoundFace


class MiddleFinder:
    """Finds a face in the middle of every picture."""

    def find(self, pictures: np.ndarray) -> list[tuple[FoundFace, ...]]:
        """See `Finder`."""
        height, width = pictures.shape[1:3]
        return [(FoundFace((0.3 * width, 0.3 * height, 0.7 * width, 0.7 * height), 1.0),) for _ in pictures]


class NoFinder:
    """Finds no face anywhere."""

    def find(self, pictures: np.ndarray) -> list[tuple[FoundFace, ...]]:
        """See `Finder`."""
        return [() for _ in pictures]
