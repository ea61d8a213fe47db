"""Reads a pipeline's levels of noise off its scheduler, and adds noise by them.

Latents are noised as ComfyUI does it, so that times mean the same to both engines. Where a scheduler works with betas,
x_t = x + σ n, which the denoiser sees divided by √(σ² + 1); in rectified flow, x_t = (1 - σ) x + σ n.
"""

from __future__ import annotations

import math
from typing import Any, Protocol

import torch
from torch import Tensor

from ...prefix.errors import TrainingError

MOST_NOISE = 4500.0
"""σ of a schedule that ends in noise alone, where it would be infinite."""


class Levels(Protocol):
    """How a model's noise grows with time t, `[B]` in (0, 1)."""

    def sigmas(self, t: Tensor) -> Tensor:
        """σ at these times, `[B]`."""

    def add_noise(self, latents: Tensor, noise: Tensor, sigmas: Tensor) -> Tensor:
        """The noised latents, `[B, …]`; σ is `[B, 1, …]`."""

    def target(self, latents: Tensor, noise: Tensor, sigmas: Tensor) -> Tensor:
        """What the denoiser ought to answer for latents and the noise in them; σ is `[B, 1, …]`."""

    def seen(self, noised: Tensor, sigmas: Tensor) -> Tensor:
        """What the denoiser sees of noised latents; σ is `[B, 1, …]`."""

    def timesteps(self, sigmas: Tensor) -> Tensor:
        """The time that the denoiser is told, `[B]`, in the scheduler's count from 0 to 1000."""


class BetaLevels:
    """Of SD1, SD2 and SDXL: the steps of a schedule of betas, and what lies between them.

    Args:
        alphas: cumulative products of the schedule, `[steps]`.
        predicted: what the denoiser predicts, in the scheduler's words.
    """

    def __init__(self, alphas: Tensor, predicted: str = "epsilon") -> None:
        self._predicted = predicted
        alphas = alphas.double()
        self._logs = ((1 - alphas) / alphas).sqrt().clamp(max=MOST_NOISE).log().float()

    @property
    def last(self) -> int:
        """The schedule's last step, which is time 1."""
        return len(self._logs) - 1

    def sigmas(self, t: Tensor) -> Tensor:
        """See `Levels`: straight between two steps, as far as logarithms go."""
        place = t.float() * self.last
        low, high = place.floor().long(), place.ceil().long()
        return torch.lerp(self._logs[low], self._logs[high], place.frac()).exp()

    def add_noise(self, latents: Tensor, noise: Tensor, sigmas: Tensor) -> Tensor:
        """See `Levels`."""
        return latents + sigmas * noise

    def target(self, latents: Tensor, noise: Tensor, sigmas: Tensor) -> Tensor:
        """See `Levels`: the noise, or the velocity of Salimans and Ho (arXiv 2202.00512).

        Raises:
            TrainingError: the denoiser predicts something else.
        """
        if self._predicted == "epsilon":
            return noise.expand_as(latents)
        if self._predicted == "v_prediction":
            return (noise - sigmas * latents) / (sigmas.square() + 1).sqrt()
        raise TrainingError(
            f"This model predicts '{self._predicted}', which cannot be fine-tuned: take one that predicts noise."
        )

    def seen(self, noised: Tensor, sigmas: Tensor) -> Tensor:
        """See `Levels`."""
        return noised / (sigmas.square() + 1).sqrt()

    def timesteps(self, sigmas: Tensor) -> Tensor:
        """See `Levels`: the nearest step."""
        distances = sigmas.cpu().log().unsqueeze(1) - self._logs
        return distances.abs().argmin(dim=1).to(sigmas.device)


class FlowLevels:
    """Of SD3 and Flux: σ is time, bent towards noise.

    Args:
        shift: how much; 1 not at all.
    """

    def __init__(self, shift: float) -> None:
        self._shift = shift

    def sigmas(self, t: Tensor) -> Tensor:
        """See `Levels`."""
        return self._shift * t / (1 + (self._shift - 1) * t)

    def add_noise(self, latents: Tensor, noise: Tensor, sigmas: Tensor) -> Tensor:
        """See `Levels`."""
        return (1 - sigmas) * latents + sigmas * noise

    def target(self, latents: Tensor, noise: Tensor, sigmas: Tensor) -> Tensor:
        """See `Levels`: the direction from picture to noise."""
        return noise - latents

    def seen(self, noised: Tensor, sigmas: Tensor) -> Tensor:
        """See `Levels`."""
        return noised

    def timesteps(self, sigmas: Tensor) -> Tensor:
        """See `Levels`."""
        return sigmas * 1000


def levels_of(scheduler: Any, cells: int) -> Levels:
    """The levels of noise of a scheduler of diffusers.

    Args:
        cells: how many of the denoiser's patches a picture has; larger pictures may be noised more.

    Raises:
        TrainingError: it is of a kind that is not known.
    """
    config = scheduler.config
    if hasattr(scheduler, "alphas_cumprod"):
        return BetaLevels(scheduler.alphas_cumprod, config.get("prediction_type", "epsilon"))
    if "shift" not in config:
        raise TrainingError(
            f"{type(scheduler).__name__} is a scheduler whose levels of noise are not known: give the pipeline the one"
            " that it was published with."
        )
    if not config.get("use_dynamic_shifting"):
        return FlowLevels(config["shift"])
    few, many = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
    low, high = config.get("base_shift", 0.5), config.get("max_shift", 1.15)
    return FlowLevels(math.exp(low + (high - low) * (cells - few) / (many - few)))
