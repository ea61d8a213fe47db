"""Without this module an artist would learn blindly: a few people drawn without and with the prefix."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from .denoiser import Denoiser, Vectors
from .identities import Identity
from .prompts import OPENINGS, name_prompt
from .seeds import derived_seed

COLUMNS = 4


class Drawer(Denoiser, Protocol):
    """A denoiser that can also make pictures of its latents."""

    def decode(self, latents: Tensor) -> Tensor:
        """Pictures `[B, height, width, 3]` in 0 to 1."""


def before_after(
    drawer: Drawer, identities: Sequence[Identity], vectors: Vectors, seed: int, report: Callable[[], None]
) -> Tensor:
    """Up to four people, the upper row without, the lower row with the prefix, each pair from the same noise.

    Args:
        report: called after each row; may raise to stop.

    Returns:
        One picture `[1, 2 * height, n * width, 3]` in 0 to 1.
    """
    shown = identities[:: max(1, len(identities) // COLUMNS)][:COLUMNS]
    prompts = [name_prompt(identity, OPENINGS[2], "") for identity in shown]
    seeds = [derived_seed(seed, "preview", index) for index in range(len(shown))]
    rows = []
    for used in (None, vectors):
        pictures = drawer.decode(drawer.sample(prompts, seeds, used))
        rows.append(torch.cat(pictures.unbind(0), dim=1))
        report()
    return torch.cat(rows).unsqueeze(0)
