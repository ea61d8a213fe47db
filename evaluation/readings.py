"""Reads pictures with a recognizer: what it saw in them, as tables to keep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..faces.gallery import Gallery
from ..faces.recognizer import Recognizer, SeesLooks


@dataclass(frozen=True)
class Readings:
    """What was seen in n pictures.

    Attributes:
        faces: whether there is a face, bool [n].
        embeddings: of the largest face in each, float32 [n, d]; zeros where there is none.
        looks: described looks that are there, and described looks, int64 [n, 2]; zeros if the recognizer does not see
            them.
    """

    faces: np.ndarray
    embeddings: np.ndarray
    looks: np.ndarray

    def __len__(self) -> int:
        return len(self.faces)

    def tensors(self) -> dict[str, Tensor]:
        """For a file."""
        return {name: torch.from_numpy(np.ascontiguousarray(table)) for name, table in vars(self).items()}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> Readings:
        """What `tensors` gave away."""
        return cls(**{name: table.numpy() for name, table in tensors.items()})

    def gallery(self, people: Sequence[int], source: str) -> Gallery:
        """The faces among them as known ones."""
        return Gallery(self.embeddings[self.faces], np.asarray(people)[self.faces], source)


def read(recognizer: Recognizer, pictures: np.ndarray, descriptions: Sequence[str]) -> Readings:
    """Reads pictures uint8 [n, height, width, 3], each of somebody of the looks described."""
    largest = [faces[0] if faces else None for faces in recognizer.find(pictures)]
    width = next((len(face.embedding) for face in largest if face is not None), 0)
    blank: np.ndarray = np.zeros(width, np.float32)
    looks = [(0, 0)] * len(pictures)
    if isinstance(recognizer, SeesLooks):
        looks = recognizer.looks_kept(pictures, descriptions)
    return Readings(
        np.array([face is not None for face in largest], bool),
        np.stack([blank if face is None else np.asarray(face.embedding, np.float32) for face in largest]),
        np.array(looks, np.int64).reshape(-1, 2),
    )


def joined(parts: Sequence[Readings]) -> Readings:
    """Several readings as one; parts in which no face was found take the width of the others."""
    width = max(part.embeddings.shape[1] for part in parts)
    wide = [part.embeddings if part.embeddings.shape[1] else np.zeros((len(part), width), np.float32) for part in parts]
    return Readings(
        np.concatenate([part.faces for part in parts]),
        np.concatenate(wide),
        np.concatenate([part.looks for part in parts]),
    )
