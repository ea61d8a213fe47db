"""Follows a plain picture beside the protected one that a sampler draws, and blends what the two are taken for.

The denoiser is asked about both, told the plain prompt of the one and the protected one of the other, and the answers
are blended by a mask of the faces (`prefix.face_region`). So what is not masked is drawn as it would be without
protection, faces around it or not (docs/METHODS.md 2.11). A sampler knows of one picture alone. The plain one's x is
followed: how far it is from the protected one's is known from how far the answers were apart. Every engine's hooks call
this, with x = x0 + sigma n, or with the x of a flow.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..prefix.errors import PrefixMismatchError
from ..prefix.face_region import FaceRegion, blended
from ..prefix.value import Prefix
from .options import RegionSettings

ASKED_AT = frozenset(2**power for power in range(20))
"""Steps, from 1, at which a negative prompt is asked about the plain picture."""

SEEN = 0.5
"""Level of noise from which on down what was masked once stays masked: a face that is overlooked at the end alone would
else be drawn as without protection."""

LIKENESS, AT_LIKENESS = 0.25, 1 / 12
"""Level of noise from which on down a face gets its likeness, and the least margin that is masked around it there, as a
share of the picture's shorter side."""


def region_for(prefix: Prefix, channels: int, instead: str) -> FaceRegion:
    """What a prefix knows of where faces are, for a model whose latents have so many channels.

    Args:
        instead: what protects the whole picture in this host, in words.

    Raises:
        PrefixMismatchError: the prefix does not say where faces are, or says so of other latents.
    """
    if not prefix.face_region:
        raise PrefixMismatchError(
            f"This prefix does not know where faces are: learn one with 'face_region' on, or use {instead}."
        )
    region = FaceRegion(prefix.face_region)
    if channels != region.channels:
        raise PrefixMismatchError(
            f"This prefix learned where faces are in latents of {region.channels} channels, and this model has"
            f" {channels}: choose a prefix that was learned on a model of its family."
        )
    return region


def region_mask(
    region: FaceRegion, settings: RegionSettings, plain: Tensor, protected: Tensor, levels: Tensor
) -> Tensor:
    """The mask `[n, ..., h, w]` of what the denoiser takes pictures for, told the plain and the protected prompt.

    Args:
        levels: of noise, `[n]`.
    """
    logits = region.logits(plain, protected, levels)
    levels = levels.to(logits)
    mask = region.mask(logits, levels, settings.certainty, settings.margin, settings.softness)
    late = levels <= LIKENESS
    if settings.margin < AT_LIKENESS and bool(late.any()):
        wide = region.mask(logits, levels, settings.certainty, AT_LIKENESS, settings.softness)
        mask = torch.where(late.view(-1, *[1] * (mask.ndim - 1)), wide, mask)
    return mask


@dataclass
class TwoPictures:
    """What lasts from one step of a sampler to the next.

    Attributes:
        inpainted: where the sampler may draw, 0 to 1; None for everywhere.
        apart: the plain picture's x minus that of the one that is drawn.
        clean_apart: the same of what the two were taken for at the last step.
        sigmas: of the last step, `[B]`.
        off: of prompts that have no plain counterpart, when they were asked last: what they said of the plain picture
            beyond what was expected, and `apart`.
        steps: since the two pictures parted.
        masked: what was masked at a level of noise at which faces can be seen.
    """

    inpainted: Tensor | None = None
    apart: Tensor | None = None
    clean_apart: Tensor | None = None
    sigmas: Tensor | None = None
    off: dict[Hashable, tuple[Tensor, Tensor]] = field(default_factory=dict)
    steps: int = 0
    masked: Tensor | None = None

    def advance(self, x: Tensor, sigmas: Tensor) -> bool:
        """Goes on to where x is now; whether the two pictures are still one.

        A step straight from one sigma to another, as Euler's, makes of two pictures that are D apart, and taken for
        ones that are C apart, two that are C + (D - C) sigma / sigma before apart. Noise that is added is added to
        both.
        """
        if self.apart is None or self.clean_apart is None or self.sigmas is None or self.apart.shape != x.shape:
            self.apart, self.off, self.steps = torch.zeros_like(x), {}, 0
        else:
            share = (sigmas / self.sigmas).clamp(max=1).view(-1, *[1] * (x.ndim - 1)).to(x)
            self.apart = self.clean_apart + share * (self.apart - self.clean_apart)
            if self.inpainted is not None:
                self.apart = self.apart * self.inpainted.to(x)
        self.sigmas = sigmas
        one = not bool(self.apart.any())
        self.steps = 0 if one else self.steps + 1
        return one

    def knows(self, prompts: Iterable[Hashable]) -> bool:
        """Whether what these say of the plain picture need not be asked at this step; see `of_plain`.

        It is asked at steps 1, 2, 4, 8 and so on, as it changes less and less from step to step.
        """
        return self.steps not in ASKED_AT and all(prompt in self.off for prompt in prompts)

    def of_plain(
        self, prompt: Hashable, protected: Tensor, signal: Tensor, noise: Tensor, told: Tensor | None = None
    ) -> Tensor:
        """What a prompt that has no plain counterpart, as a negative one, says of the plain picture.

        Where it is not asked, that is what it says of the protected one, and what the two pictures' distance makes of
        it: as much as a Wiener filter lets by of pictures of unit variance, which is all where there is no noise; and
        what was beyond that when it was asked last, grown with the distance (docs/METHODS.md 2.11).

        Args:
            prompt: a key of its own.
            protected: what it says of the protected picture.
            signal, noise: of x_t = signal x + noise n, `[B]`.
            told: what it says of the plain one, if it was asked at this step.
        """
        assert self.apart is not None
        let_by = (signal / (signal.square() + noise.square())).view(-1, *[1] * (protected.ndim - 1))
        expected = let_by.to(protected) * self.apart.to(protected)
        if told is None:
            beyond, before = self.off[prompt]
            return protected + expected + _grown(before, self.apart).to(beyond) * beyond
        self.off[prompt] = told - protected - expected, self.apart
        return told

    def remember(self, mask: Tensor, levels: Tensor) -> Tensor:
        """The mask, with what was masked before."""
        if self.masked is not None and self.masked.shape == mask.shape:
            mask = torch.maximum(mask, self.masked)
        if bool((levels <= SEEN).all()):
            self.masked = mask
        return mask

    def blended(self, plain: Tensor, protected: Tensor, mask: Tensor) -> Tensor:
        """What the picture that is drawn is taken for: as the plain one where nothing is masked, else as the other.

        Args:
            plain, protected: what either picture is taken for, guidance included.
        """
        made = blended(plain, protected, mask)
        self.clean_apart = plain - made
        return made


def _grown(before: Tensor, now: Tensor) -> Tensor:
    """How many times `before` `[B, …]` is nearest to `now`, `[B, 1, …]`; 1 where there was nothing."""
    size = before.flatten(1).square().sum(1)
    share = torch.where(size > 0, (before * now).flatten(1).sum(1) / size, 1)
    return share.view(-1, *[1] * (before.ndim - 1))
