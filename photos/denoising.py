"""Asks the denoiser about noised photographs, with gradients with respect to the photos' latents or the prompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..engines.clean import clean_latents
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
        """What the denoiser takes noised latents for (`engines.clean`), `[B, …]`, differentiable in both."""
        self.passes += 1
        noised = self.denoiser.add_noise(latents, noise, t)
        return clean_latents(self.denoiser, noised, t, self.denoiser.predict(noised, t, conditioning))


def gradient_of(losses: Tensor, wanted: Tensor) -> Tensor:
    """The gradient of the sum of losses with respect to a tensor."""
    with gradient_through(PART):
        (found,) = torch.autograd.grad(losses.sum(), [wanted])
    return found
