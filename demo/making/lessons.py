"""Prepares what both denoisers learn from, beside the training: latents with captions, picked and tokenized."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from ..world.language import caption
from ..world.people import GEOMETRY
from ..world.renderer import Picture
from .autoencoder import prepare_latents
from .common import batch, device, world_size
from .data import load_or_render
from .language import HEAD, targets

BATCH = 64
SHARES = (0.40, 0.32, 0.28)
"""Of the cast, strangers and things in a batch."""

UNCAPTIONED = 0.06
"""Share of pictures whose caption is left out, as guidance needs it."""

GUIDE_WEIGHT = 0.05


class Picker:
    """Picks pictures by the shares of their kinds, and captions of them; `size` of them in a batch.

    Args:
        words: words foreign to the language; now and then some stand in a caption and mean nothing.
    """

    def __init__(self, pictures: Sequence[Picture], words: Sequence[str], seed: int) -> None:
        self.rng, self._pictures, self._words = np.random.default_rng(seed), pictures, words
        self.size = batch(BATCH) // world_size()
        kinds = np.array([0 if p.person is not None else 1 if p.looks else 2 for p in pictures])
        self._members = [np.flatnonzero(kinds == kind) for kind in range(len(SHARES))]

    def __call__(self) -> tuple[list[int], list[str]]:
        """A batch of pictures by their numbers, and a caption of each."""
        return self.some(self.size)

    def some(self, count: int) -> tuple[list[int], list[str]]:
        """`count` pictures by their numbers, and a caption of each."""
        counts = [round(count * share) for share in SHARES[1:]]
        counts.insert(0, count - sum(counts))
        picked = [self.rng.choice(members, n) for members, n in zip(self._members, counts, strict=True)]
        chosen = np.concatenate(picked).tolist()
        return chosen, [
            "" if self.rng.random() < UNCAPTIONED else caption(self.rng, self._pictures[i], self._words) for i in chosen
        ]


class Lessons:
    """Latents of the pictures and what they show, where the denoiser is trained."""

    def __init__(self, folder: Path, weights: Path) -> None:
        self.pictures = load_or_render(folder).pictures
        self.latents = prepare_latents(folder, weights).to(device())
        self.truth = {name: value.to(device()) for name, value in targets(list(self.pictures)).items()}

    def shown(self, chosen: Sequence[int]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Latents [n, 12, 12, 12] of the chosen pictures, and what these show."""
        rows = torch.tensor(chosen, device=device())
        return self.latents[rows].float(), {name: value[rows] for name, value in self.truth.items()}


class Guide(torch.nn.Module):
    """A throw-away reading of a layer in the denoiser's middle: what the clean picture shows.

    To say it the layer must fetch from the text what the noise hides, which it learns in a fraction of the steps that
    the denoising loss alone takes.

    Args:
        layer: whose output is read.
        width: numbers of that output for each picture.
        part: what of the output is read.
    """

    def __init__(
        self, layer: torch.nn.Module, width: int, part: Callable[[torch.Tensor], torch.Tensor] = lambda output: output
    ) -> None:
        super().__init__()
        self.middle: torch.Tensor | None = None
        self._part = part
        layer.register_forward_hook(self._keep)
        self.linear = torch.nn.Linear(width, sum(HEAD.values()) + len(GEOMETRY))

    def _keep(self, module: torch.nn.Module, inputs: tuple[object, ...], output: torch.Tensor) -> None:
        self.middle = self._part(output)

    def loss(self, truth: dict[str, torch.Tensor]) -> torch.Tensor:
        """Of the last pass through the denoiser: cross entropies and the squared error of the geometry."""
        assert self.middle is not None
        parts = self.linear(self.middle.float().flatten(1)).split([*HEAD.values(), len(GEOMETRY)], -1)
        out = dict(zip([*HEAD, "geometry"], parts, strict=True))
        # Sums, since a batch may have no person, or nothing else: the mean of none is no number.
        total = torch.zeros((), device=parts[0].device)
        for name in HEAD:
            known = (truth[name] >= 0).sum().clamp_min(1)
            total = total + F.cross_entropy(out[name], truth[name], ignore_index=-100, reduction="sum") / known
        missed = (out["geometry"] - truth["geometry"]).square().mean(1) * truth["is_person"]
        return total + 3 * missed.sum() / truth["is_person"].sum().clamp_min(1)
