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


class BeforeAfter:
    """Up to four people, the upper row without, the lower row with a prefix, each pair from the same noise.

    Args:
        check: called after each row; may raise to stop.

    Attributes:
        people: their names, from left to right.
    """

    def __init__(self, drawer: Drawer, identities: Sequence[Identity], seed: int, check: Callable[[], None]) -> None:
        shown = identities[:: max(1, len(identities) // COLUMNS)][:COLUMNS]
        self.people = tuple(identity.name for identity in shown)
        self._drawer = drawer
        self._prompts = [name_prompt(identity, OPENINGS[2], "") for identity in shown]
        self._seeds = [derived_seed(seed, "preview", index) for index in range(len(shown))]
        self._check = check
        self._plain: Tensor | None = None

    def draw(self, vectors: Vectors) -> Tensor:
        """One picture `[1, 2 * height, n * width, 3]` in 0 to 1; the upper row is drawn once for all calls."""
        if self._plain is None:
            self._plain = self._row(None)
        return torch.cat([self._plain, self._row(vectors)]).unsqueeze(0)

    def _row(self, vectors: Vectors | None) -> Tensor:
        pictures = self._drawer.decode(self._drawer.sample(self._prompts, self._seeds, vectors))
        self._check()
        return torch.cat(pictures.unbind(0), dim=1)
