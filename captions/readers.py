"""Defines `LooksReader`, the interface to whatever reads looks off a face, and what its answers must be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from ..prefix.errors import DescriptionError
from .attributes import Attribute

Probabilities = Mapping[str, np.ndarray]
"""By the name of an attribute: float [n, answers] for n pictures, each row's sum at most 1; all 0: it cannot tell."""

ROUNDING = 1e-3
"""How far above 1 the sum of a picture's probabilities may lie: readers compute in half precision."""


class LooksReader(Protocol):
    """Reads looks off pictures of one face each.

    Attributes:
        name: what reads, in words.
        attributes: what it reads, in the order in which that is said.
        margin: how much of a face's own size it wants to see around the face, on each side; None: the whole picture.
        batch: how many pictures it reads at once.
    """

    name: str
    attributes: tuple[Attribute, ...]
    margin: float | None
    batch: int

    def read(self, pictures: Sequence[np.ndarray]) -> Probabilities:
        """What it sees in pictures, uint8 [height, width, 3] of any sizes.

        Raises:
            DescriptionError: it cannot run here.
        """


def read_checked(reader: LooksReader, pictures: Sequence[np.ndarray]) -> Probabilities:
    """What a reader sees, in float64.

    Raises:
        DescriptionError: it answers something else than probabilities, or as `LooksReader.read`.
    """
    answers = reader.read(pictures)
    checked = {}
    for attribute in reader.attributes:
        given = np.asarray(answers.get(attribute.name), np.float64) if attribute.name in answers else np.zeros(0)
        fits = given.shape == (len(pictures), len(attribute.answers)) and bool(np.isfinite(given).all())
        if not fits or (given < 0).any() or (given.sum(1) > 1 + ROUNDING).any():
            raise DescriptionError(
                f"{reader.name} answers what are no probabilities, of '{attribute.name}': its weights may be damaged,"
                " so get them anew, or choose another reader."
            )
        checked[attribute.name] = given
    return checked
