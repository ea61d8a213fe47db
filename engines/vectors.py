"""Makes vectors that take the place of tokens, and the optimizer that learns them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from .denoiser import Denoiser

CLIP_SPREAD = 0.014
"""Standard deviation of the token embeddings of SD1's CLIP, for which learning rates are told; T5's is about 1."""

EPSILON = 1e-8
"""Adam's, for gradients with respect to embeddings of that spread."""


def new_vectors(denoiser: Denoiser, words: str, count: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Parameters `{encoder key: [count, d]}` that start from words, repeated as needed, or at random without words."""
    vectors = {}
    for key, embeddings in denoiser.token_embeddings(words).items():
        if words.strip():
            start = embeddings[[index % len(embeddings) for index in range(count)]].clone()
        else:
            noise = torch.randn(count, embeddings.shape[1], generator=generator)
            start = embeddings.mean(0) + embeddings.std(0) * noise
        vectors[key] = start.requires_grad_()
    return vectors


def scale_free_adam(vectors: Mapping[str, Tensor], rate: float) -> torch.optim.Adam:
    """Adam whose steps do not depend on how widely an encoder's embeddings are spread (docs/METHODS.md 2.5).

    Where embeddings, and the prefix among them, are multiplied by a number and divided by it where they are read, the
    gradient is divided by it. Adam moves by its rate whatever the size of the gradient, so the rate is multiplied by
    the spread; and its ε, which is added to the size of the gradient, is divided by it.

    Args:
        vectors: one group of the optimizer each, with its peak rate as `peak`.
        rate: peak rate as a multiple of the spread.
    """
    groups = []
    for vector in vectors.values():
        spread = float(vector.detach().std()) or CLIP_SPREAD
        groups.append({"params": [vector], "peak": rate * spread, "eps": EPSILON * CLIP_SPREAD / spread})
    return torch.optim.Adam(groups)
