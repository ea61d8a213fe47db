"""Says how a denoiser that computes otherwise is to learn what the denoiser itself answers (docs/METHODS.md 8.4)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..engines.denoiser import Denoiser


@dataclass(frozen=True)
class Distillation:
    """What is learned, in place of what pictures say.

    Attributes:
        altered: opened around predictions of the denoiser that learns; the teacher predicts outside of it, without
            what is learned.
        until: time t at which drawings end: below it the denoiser itself goes on.
        key: tells this alteration from others.
        guidance: that pictures are drawn with.
        steps: that they are drawn in.
        watched: inside, the table holds what blocks of the network answered last, by name; the altered one's are to be
            as the teacher's.
    """

    altered: Callable[[], AbstractContextManager[None]]
    key: str
    guidance: float = 1.0
    steps: int = 20
    watched: Callable[[], AbstractContextManager[Mapping[str, Tensor]]] = lambda: nullcontext({})
    until: float = 0.0

    @property
    def digest(self) -> tuple[Any, ...]:
        """Of all that what is learned follows from."""
        return self.key, self.guidance, self.steps, self.until

    @property
    def guided_weight(self) -> float:
        """Of the guided prediction's squared error beside that of the prompt's own: 1 at a guidance of 2, less above,
        where errors of both predictions come through the larger."""
        return 1.0 if self.guidance == 1 else 5 / (self.guidance**2 + (self.guidance - 1) ** 2)


class Answers(NamedTuple):
    """What a denoiser answers with guidance, and for the prompt alone: `[n, *latent_shape]` each."""

    guided: Tensor
    conditional: Tensor


def unlikeness(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> Tensor | float:
    """Squared distance of what blocks answered, as a share of what is wanted, on the mean over the blocks of both."""
    names = [name for name in found if name in wanted]
    return sum((distance_share(found[name], wanted[name]) for name in names), 0.0) / max(1, len(names))


def distance_share(found: Tensor, wanted: Tensor) -> Tensor:
    """Squared distance to what is wanted, as a share of its own square."""
    wanted = wanted.detach().to(found)
    return (found - wanted).square().mean() / wanted.square().mean().clamp_min(1e-12)


def answers_of(
    denoiser: Denoiser, noised: Tensor, t: Tensor, conditioning: Sequence[Any], nothing: Any, guidance: float
) -> Answers:
    """What a denoiser answers; inside its `gradients`. Without guidance (1) it is asked but once.

    Args:
        noised: `[n, *latent_shape]`.
        t: `[n]`.
        conditioning: n entries of `Denoiser.encode`.
        nothing: that of the empty prompt.
    """
    if guidance == 1:
        conditional = denoiser.predict(noised, t, conditioning)
        return Answers(conditional, conditional)
    twice = torch.cat([noised, noised]), torch.cat([t, t]), [*conditioning, *[nothing] * len(noised)]
    conditional, without = denoiser.predict(*twice).chunk(2)
    return Answers(without + guidance * (conditional - without), conditional)
