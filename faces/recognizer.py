"""Defines `Recognizer`, the interface to whatever recognizes faces."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch

from .gallery import Gallery

Place = Callable[[torch.nn.Module], None]
"""Brings a network to the device that it is to run on; whoever hosts it decides which, and for how long."""

Report = Callable[[int, int], None]
"""Called with how much is done and how much there is, 0 if that is not known; may raise to stop."""


@dataclass(frozen=True)
class FoundFace:
    """A face that was found in a picture.

    Attributes:
        box: left, top, right, bottom in pixels of the picture, inside it.
        confidence: how sure the finder is that this is a face, 0 to 1.
    """

    box: tuple[float, float, float, float]
    confidence: float


@dataclass(frozen=True)
class Face(FoundFace):
    """A face that can be recognized.

    Attributes:
        embedding: float32 [d], for `Recognizer.similarities`.
    """

    embedding: np.ndarray


@dataclass(frozen=True)
class Threshold:
    """The similarity from which on two faces count as one person's, and where that figure comes from."""

    value: float
    source: str


class Finder(Protocol):
    """Finds faces. Every `Recognizer` does."""

    def find(self, pictures: np.ndarray) -> Sequence[Sequence[FoundFace]]:
        """The faces in each of the pictures, uint8 [n, height, width, 3], the largest first; none is empty.

        Raises:
            MeasurementError: the finder cannot run here.
        """


class Recognizer(Protocol):
    """Finds faces, embeds them and compares them."""

    name: str
    threshold: Threshold

    def find(self, pictures: np.ndarray) -> list[tuple[Face, ...]]:
        """The faces in each of the pictures, uint8 [n, height, width, 3], the largest first; none is an empty tuple.

        Raises:
            MeasurementError: the recognizer cannot run here.
        """

    def similarities(self, some: np.ndarray, others: np.ndarray) -> np.ndarray:
        """How alike faces are, at most 1: embeddings [n, d] and [m, d] to [n, m]."""


@runtime_checkable
class Knows(Protocol):
    """What a recognizer may have beside: faces of people, by their names."""

    def gallery(self, names: Sequence[str]) -> Gallery:
        """The faces it knows of these people, numbered by their place in `names`, and faces of others to confuse them.

        It need not know any of them.
        """


@runtime_checkable
class SeesLooks(Protocol):
    """A recognizer that sees looks as well."""

    def looks_kept(self, pictures: np.ndarray, descriptions: Sequence[str]) -> list[tuple[int, int]]:
        """How many of the looks that each description names its picture shows, and how many it names.

        Args:
            pictures: uint8 [n, height, width, 3].
            descriptions: one for each picture.
        """


def cosine_similarities(some: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Cosine similarities of embeddings [n, d] and [m, d], -1 to 1: [n, m]; an embedding of zeros is like nothing."""
    first, second = (
        vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12) for vectors in (some, others)
    )
    return first @ second.T
