"""Stands in for a model in tests of an evaluation: a denoiser whose pictures are plain colours."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from anonymize_faces.faces.recognizer import Face, Threshold, cosine_similarities
from anonymize_faces.prefix import Prefix, PrefixRecord
from anonymize_faces.trainer.data.identities import Identity

COLOURS = {"Rita Red": (0.9, 0.1, 0.1), "Gus Green": (0.1, 0.9, 0.1), "Bea Blue": (0.1, 0.1, 0.9)}
PEOPLE = tuple(Identity(name, f"somebody in {name.split()[1].lower()}") for name in COLOURS)
FACELESS = "Nemo Black"
GREY = (0.5, 0.5, 0.5)
SPREAD = 0.05


def prefix_of_effect(effect: float, width: int = 4, family: str = "painter") -> Prefix:
    """A prefix that moves people towards others' colours, and other prompts by a tenth of that."""
    return Prefix({"l": torch.full((2, width), effect)}, PrefixRecord(family=family, fingerprint="0" * 16))


class Painter:
    """A `Denoiser` that paints everybody in their own colour, and counts what it paints."""

    family, fingerprint = "painter", "0" * 16
    latent_shape = (3, 2, 2)

    def __init__(self, digest: str = "one") -> None:
        self.digest = digest
        self.painted: list[tuple[str, int]] = []

    def token_embeddings(self, text: str) -> dict[str, Tensor]:
        return {"l": torch.zeros(8, 4)}

    def out_of_memory(self, error: Exception) -> bool:
        return isinstance(error, MemoryError)

    def use_less_memory(self) -> bool:
        return False

    def stream_weights(self) -> bool:
        return False

    def free_memory(self) -> None:
        pass

    def sample(self, prompts: Sequence[str], seeds: Sequence[int], vectors: dict | None = None) -> Tensor:
        self.painted += list(zip(prompts, seeds, strict=True))
        effect = 0.0 if vectors is None else float(vectors["l"].mean())
        return torch.stack([_colour(p, s, effect) for p, s in zip(prompts, seeds, strict=True)])

    def decode(self, latents: Tensor) -> Tensor:
        return latents.permute(0, 2, 3, 1).repeat_interleave(4, 1).repeat_interleave(4, 2)


class ColourRecognizer:
    """A `Recognizer` to which the colour of a picture is its face, and black none."""

    threshold = Threshold(0.9, "chosen for the test")

    def __init__(self, name: str = "colours") -> None:
        self.name = name
        self.looked = 0

    def find(self, pictures: np.ndarray) -> list[tuple[Face, ...]]:
        self.looked += len(pictures)
        colours = pictures.reshape(len(pictures), -1, 3).mean(1).astype(np.float32) / 255
        box = (0.0, 0.0, float(pictures.shape[2]), float(pictures.shape[1]))
        return [(Face(box, 1.0, colour),) if colour.max() > 0.2 else () for colour in colours]

    def similarities(self, some: np.ndarray, others: np.ndarray) -> np.ndarray:
        return cosine_similarities(some, others)


def _colour(prompt: str, seed: int, effect: float) -> Tensor:
    noise = torch.rand((3, 1, 1), generator=torch.Generator().manual_seed(seed)) * SPREAD
    if FACELESS in prompt:
        return torch.zeros(Painter.latent_shape)
    named = next((colour for name, colour in COLOURS.items() if name in prompt), None)
    if named is None:
        colour = torch.tensor(GREY) + 0.1 * effect
    else:
        colour = (1 - effect) * torch.tensor(named) + effect * torch.tensor(named).roll(1)
    return (colour.reshape(3, 1, 1) + noise).expand(Painter.latent_shape)
