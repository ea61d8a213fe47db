"""Asks the denoiser about noised photographs, with gradients with respect to the photos' latents or the prompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..engines.denoiser import Denoiser
from ..engines.gradient_flow import gradient_through

PART = "model"


class CountedDenoiser:
    """The denoiser with a count of how often it was asked.

    Attributes:
        passes: forward passes so far, of a set of photos each.
    """

    def __init__(self, denoiser: Denoiser) -> None:
        self.denoiser = denoiser
        self.passes = 0

    def losses(self, latents: Tensor, noise: Tensor, t: Tensor, conditioning: Sequence[Any]) -> Tensor:
        """The denoising loss of each picture `[B]` (docs/METHODS.md 5), differentiable in latents and conditioning."""
        self.passes += 1
        predicted = self.denoiser.predict(self.denoiser.add_noise(latents, noise, t), t, conditioning)
        wanted = self.denoiser.target(latents, noise, t).to(predicted)
        return (predicted - wanted).square().flatten(1).mean(1)

    def clean(self, latents: Tensor, noise: Tensor, t: Tensor, conditioning: Sequence[Any]) -> Tensor:
        """The latents `[B, …]` that the denoiser takes noised ones for, differentiable in both.

        `add_noise` and `target` are linear in latents and noise, so that clean = a x_t + b prediction for every family,
        with a and b by time from what they make of ones and zeros.
        """
        self.passes += 1
        noised = self.denoiser.add_noise(latents, noise, t)
        predicted = self.denoiser.predict(noised, t, conditioning)
        ones, zeros = torch.ones_like(noise), torch.zeros_like(noise)
        of_latents, of_noise = ((ones, zeros), (zeros, ones))
        (a_latents, p_latents), (a_noise, p_noise) = (
            (self.denoiser.add_noise(*pair, t), self.denoiser.target(*pair, t)) for pair in (of_latents, of_noise)
        )
        b = 1 / (p_latents - p_noise * a_latents / a_noise)
        a = -b * p_noise / a_noise
        return a.to(predicted) * noised.to(predicted) + b.to(predicted) * predicted


def gradient_of(losses: Tensor, wanted: Tensor) -> Tensor:
    """The gradient of the sum of losses with respect to a tensor."""
    with gradient_through(PART):
        (found,) = torch.autograd.grad(losses.sum(), [wanted])
    return found
