"""A finder and a reader whose answers a test chooses."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from anonymize_faces.captions.attributes import VOCABULARY, Attribute, chosen_attributes
from anonymize_faces.faces.recognizer import FoundFace


class ChosenFaces:
    """Finds as many faces as the first pixel's red says, one of 20 pixels and larger ones before it."""

    def __init__(self) -> None:
        self.asked = 0

    def find(self, pictures: np.ndarray) -> list[tuple[FoundFace, ...]]:
        self.asked += len(pictures)
        return [
            tuple(FoundFace((5.0, 5.0, 5.0 + side, 5.0 + side), 0.99) for side in range(20 + int(one[0, 0, 0]), 20, -1))
            for one in pictures
        ]


class ChosenLooks:
    """Reads what a function makes of a crop: the answer of each attribute with its probability."""

    name = "chosen looks"
    batch = 3

    def __init__(
        self,
        read: Callable[[np.ndarray], dict[str, tuple[str, float]]],
        attributes: str = "",
        margin: float | None = 0.2,
        known: Sequence[Attribute] = VOCABULARY,
    ) -> None:
        self.attributes = chosen_attributes(attributes, known)
        self.margin = margin
        self._read = read

    def read(self, pictures: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        told = [self._read(picture) for picture in pictures]
        read = {}
        for one in self.attributes:
            rows = np.zeros((len(pictures), len(one.answers)))
            for row, answers in enumerate(told):
                if one.name in answers:
                    word, probability = answers[one.name]
                    rows[row] = (1 - probability) / (len(one.answers) - 1)
                    rows[row, one.words.index(word)] = probability
            read[one.name] = rows
        return read


def picture(faces: int = 1, side: int = 64, second: int = 0) -> np.ndarray:
    """A picture in which `ChosenFaces` finds so many faces; `second` is the green of every pixel."""
    pixels = np.zeros((side, side, 3), np.uint8)
    pixels[..., 1] = second
    pixels[0, 0, 0] = faces
    return pixels
