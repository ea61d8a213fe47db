"""Sends prompts to experts by what the checkpoint's own text encoder says of them (docs/METHODS.md 8.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..prefix.errors import ExpertsError
from ..runs.seeds import generator
from .sinkhorn import balanced

DIRECTIONS = 2
"""Directions of the text encoder's space that are looked at for each expert: those in which prompts differ most."""

ROUNDS = 15
STARTS = 4


@dataclass(frozen=True)
class Router:
    """Where prompts go.

    Attributes:
        mean: `[d]`, of what the text encoder says of the prompts that were learned from.
        directions: `[d, r]`, what is looked at, each divided by its spread.
        centroids: `[K, r]` of length 1, one for each expert.
    """

    mean: Tensor
    directions: Tensor
    centroids: Tensor

    def embed(self, embeddings: Tensor) -> Tensor:
        """What is looked at of embeddings `[n, d]`: `[n, r]` of length 1."""
        return torch.nn.functional.normalize((embeddings - self.mean) @ self.directions, dim=1)

    def route(self, embeddings: Tensor) -> Tensor:
        """The expert of each of the prompts `[n, d]`, `[n]` whole numbers: the nearest centroid, by cosine.

        Raises:
            ExpertsError: the text encoder is another, and says what has another width.
        """
        if embeddings.shape[-1] != len(self.mean):
            raise ExpertsError(
                f"This conditioning is {embeddings.shape[-1]} wide and the experts were learned with"
                f" {len(self.mean)}: encode the prompt with the text encoder of the checkpoint that they were learned"
                " on."
            )
        return (self.embed(embeddings.float()) @ self.centroids.T).argmax(1)


def embedding_of(states: Tensor) -> Tensor:
    """What a text encoder says of a prompt as a whole, `[d]` float32 on the CPU: the mean over the positions.

    Padding is counted where the encoder reads it: a conditioning does not tell which positions it is, and what a CLIP
    says there is said of the whole prompt before.

    Args:
        states: `[1, length, d]`, as a conditioning has them.
    """
    return states.detach().float().reshape(-1, states.shape[-1]).mean(0).cpu()


def fitted_router(embeddings: Tensor, experts: int, seed: int) -> Router:
    """A router whose experts get equally many of the prompts with these embeddings `[n, d]`, like with like."""
    mean = embeddings.mean(0)
    _, spread, axes = torch.linalg.svd(embeddings - mean, full_matrices=False)
    kept = max(1, min(DIRECTIONS * experts, int((spread > 1e-4 * spread[:1]).sum())))
    directions = axes[:kept].T / spread[:kept].clamp_min(1e-12)
    placed = torch.nn.functional.normalize((embeddings - mean) @ directions, dim=1)
    found = [_centroids(placed, experts, generator(seed, "experts", start)) for start in range(STARTS)]
    return Router(mean, directions.contiguous(), max(found, key=lambda one: one[0])[1])


def _centroids(placed: Tensor, experts: int, random: torch.Generator) -> tuple[float, Tensor]:
    """How near prompts are to their centroids, and these, by k-means whose assignments are balanced."""
    centroids = placed[_spread_out(placed, experts, random)]
    shares = placed.new_zeros(len(placed), experts)
    for _ in range(ROUNDS):
        shares = balanced(placed @ centroids.T)
        centroids = torch.nn.functional.normalize(shares.T @ placed, dim=1)
    return float((shares * (placed @ centroids.T)).sum()), centroids


def _spread_out(placed: Tensor, experts: int, random: torch.Generator) -> Sequence[int]:
    """Prompts to start from, each far from those before (k-means++)."""
    chosen = [int(torch.randint(len(placed), (1,), generator=random))]
    while len(chosen) < experts:
        distances = (1 - placed @ placed[chosen].T).amin(1).clamp_min(1e-9)
        chosen.append(int(torch.multinomial(distances, 1, generator=random)))
    return chosen
