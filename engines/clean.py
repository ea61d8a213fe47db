"""Computes what a denoiser takes noised latents for, and how much of them is noise, for every family alike."""

from __future__ import annotations

from torch import Tensor, ones_like, zeros_like

from .denoiser import Denoiser


def clean_latents(denoiser: Denoiser, noised: Tensor, t: Tensor, predicted: Tensor) -> Tensor:
    """The latents `[B, …]` that the denoiser takes `noised` ones for; differentiable in what it `predicted`.

    `add_noise` and `target` are linear in latents and noise, so that clean = a x_t + b prediction for every family,
    with a and b by time from what they make of ones and zeros.
    """
    ones, zeros = ones_like(noised), zeros_like(noised)
    of_latents, of_noise = ((ones, zeros), (zeros, ones))
    (a_latents, p_latents), (a_noise, p_noise) = (
        (denoiser.add_noise(*pair, t), denoiser.target(*pair, t)) for pair in (of_latents, of_noise)
    )
    b = 1 / (p_latents - p_noise * a_latents / a_noise)
    a = -b * p_noise / a_noise
    return a.to(predicted) * noised.to(predicted) + b.to(predicted) * predicted


def signal_and_noise(denoiser: Denoiser, t: Tensor) -> tuple[Tensor, Tensor]:
    """How much of x_t is picture and how much noise, `[B]` each, at times `[B]`."""
    one = t.new_ones(len(t), *[1] * len(denoiser.latent_shape))
    signal, noise = denoiser.add_noise(one, one * 0, t), denoiser.add_noise(one * 0, one, t)
    return signal.flatten(), noise.flatten()
