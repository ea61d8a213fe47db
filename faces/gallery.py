"""Without this module nobody could be found again: the faces that are known, and whose they are."""

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

    @property
    def strangers(self) -> int:
        """How many of the faces are distractors."""
        return int((self.people == STRANGER).sum())


def join(galleries: Sequence[Gallery]) -> Gallery:
    """One gallery of several; those without faces count for nothing."""
    some = [gallery for gallery in galleries if len(gallery.people)] or list(galleries[:1])
    return Gallery(
        np.concatenate([gallery.embeddings for gallery in some]),
        np.concatenate([gallery.people for gallery in some]),
        "; ".join(dict.fromkeys(gallery.source for gallery in some)),
    )
