"""Holds the faces that are known, and whose they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

STRANGER = -1


@dataclass(frozen=True)
class Gallery:
    """Known faces that others are compared with.

    Attributes:
        embeddings: float32 [n, d].
        people: [n] number of the person whom each shows, in the order of a list of names; `STRANGER` for a distractor.
        source: where the faces come from, in words.
    """

    embeddings: np.ndarray
    people: np.ndarray
    source: str

    def missing(self, count: int) -> list[int]:
        """Those of the first `count` people of whom there is no face."""
        return sorted(set(range(count)) - set(self.people.tolist()))

    @property
    def strangers(self) -> int:
        """How many of the faces are distractors."""
        return int((self.people == STRANGER).sum())


NOBODY = Gallery(np.zeros((0, 0), np.float32), np.zeros(0, int), "")
"""A gallery without faces."""


def join(galleries: Sequence[Gallery]) -> Gallery:
    """One gallery of several."""
    some = [gallery for gallery in galleries if len(gallery.people)]
    if not some:
        return NOBODY
    return Gallery(
        np.concatenate([gallery.embeddings for gallery in some]),
        np.concatenate([gallery.people for gallery in some]),
        "; ".join(dict.fromkeys(gallery.source for gallery in some)),
    )
