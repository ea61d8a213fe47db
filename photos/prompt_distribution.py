"""Models what an attacker may call a photograph: a Gaussian of prompt states around those that explain it (PAP)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .denoising import CountedDenoiser, gradient_of

STEP = 0.05
"""How far a descent step goes at first, as a share of the length of the prompt's own states."""

SMALLEST_STEP = 1e-4

LEAST_FALL = 1e-6
"""A fall of the loss that is less than this tells nothing of curvature: then there is no spread."""

FIRST_STEPS, LATER_STEPS = 6, 2
"""Steps of descent in the first step of protecting, and in later ones, which go on from where the mean was."""


@dataclass
class PromptDistribution:
    """The Gaussian N(mean, spread² I) over the states of a prompt (docs/METHODS.md 6.2).

    Attributes:
        start: states of the plain prompt, `[1, length, d]`.
        mean: where the denoising loss of the photos is least, as far as descent has come.
        spread: standard deviation.
        step: share of the length of `start` that the next step goes.
    """

    start: Tensor
    mean: Tensor
    spread: float = 0.0
    step: float = STEP

    def descend(
        self, counted: CountedDenoiser, latents: Tensor, noise: Tensor, t: Tensor, conditioning: Sequence[Any]
    ) -> None:
        """Moves the mean down the denoising loss, whatever the scale of its gradient, and finds the spread anew.

        A step goes along the gradient by a share of the prompt's own length, halved where the loss rises. σ² is half
        the squared way from the plain prompt over the fall of the loss, for each element (Laplace's approximation with
        one curvature), and at most the spread of the prompt's own states.
        """
        steps = LATER_STEPS if self.spread or not torch.equal(self.mean, self.start) else FIRST_STEPS
        length = float(self.start.norm())

        def loss_of(states: Tensor) -> Tensor:
            told = counted.denoiser.with_states(conditioning, [states] * len(conditioning))
            return counted.losses(latents, noise, t, told).mean()

        loss = None
        for _ in range(steps):
            states = self.mean.clone().requires_grad_()
            here = loss_of(states)
            loss = float(here.detach())
            gradient = gradient_of(here, states)
            size = float(gradient.norm())
            if not size or not torch.isfinite(gradient).all():
                break
            tried = self.mean - self.step * length / size * gradient
            with torch.no_grad():
                after = float(loss_of(tried))
            if after < loss:
                self.mean, loss = tried.detach(), after
                self.step = min(self.step * 1.2, 4 * STEP)
            else:
                self.step = max(self.step / 2, SMALLEST_STEP)
        with torch.no_grad():
            plain = float(loss_of(self.start))
        self.spread = spread_of(self.start, self.mean, plain - (plain if loss is None else loss))

    def draw(self, random: torch.Generator) -> Tensor:
        """States drawn from it, `[1, length, d]`."""
        noise = torch.randn(self.mean.shape, generator=random).to(self.mean)
        return self.mean + self.spread * noise


def spread_of(start: Tensor, mean: Tensor, fall: float) -> float:
    """σ, the root of `variance_of`, at most the spread of `start`."""
    return min(variance_of(start, mean, fall) ** 0.5, float(start.std()))


def variance_of(start: Tensor, mean: Tensor, fall: float) -> float:
    """σ² = ‖start − mean‖² / (2 d |fall|); 0 where the loss hardly fell."""
    if abs(fall) < LEAST_FALL:
        return 0.0
    return 0.5 * float((start - mean).square().mean()) / abs(fall)
