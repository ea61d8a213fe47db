"""Computes what a denoiser takes noised latents for, and how much of them is noise, for every family alike."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, ones_like, zeros_like

from .denoiser import Denoiser

OfPair = Callable[[Tensor, Tensor], Tensor]
"""What becomes of latents and noise together, `[B, …]` each: linear in both."""


def clean_latents(denoiser: Denoiser, noised: Tensor, t: Tensor, predicted: Tensor) -> Tensor:
    """The latents `[B, …]` that the denoiser takes `noised` ones for; differentiable in what it `predicted`."""
    a, b = _factors(denoiser, t, noised)
    return a.to(predicted) * noised.to(predicted) + b.to(predicted) * predicted


def clean_factors(add_noise: OfPair, target: OfPair, like: Tensor) -> tuple[Tensor, Tensor]:
    """Factors a and b, of the shape of `like`, such that clean = a x_t + b prediction.

    `add_noise` and `target` are linear in latents and noise, so that there are such for every family: they follow from
    what the two make of ones and zeros.
    """
    ones, zeros = ones_like(like), zeros_like(like)
    of_latents, of_noise = ((ones, zeros), (zeros, ones))
    (a_latents, p_latents), (a_noise, p_noise) = ((add_noise(*pair), target(*pair)) for pair in (of_latents, of_noise))
    b = 1 / (p_latents - p_noise * a_latents / a_noise)
    return -b * p_noise / a_noise, b


def picture_weights(denoiser: Denoiser, t: Tensor) -> Tensor:
    """Weights `[B]` at times `[B]`, which make squared errors of answers those of the pictures that they mean.

    So losses are the same for all parameterizations: the loss in the space of x (Salimans and Ho, arXiv 2202.00512,
    section 4). What a caption says is decided where there is much noise, and there pictures are far off.
    """
    return _factors(denoiser, t, _one_each(denoiser, t))[1].square().flatten()


def signal_and_noise(denoiser: Denoiser, t: Tensor) -> tuple[Tensor, Tensor]:
    """How much of x_t is picture and how much noise, `[B]` each, at times `[B]`."""
    one = _one_each(denoiser, t)
    signal, noise = denoiser.add_noise(one, one * 0, t), denoiser.add_noise(one * 0, one, t)
    return signal.flatten(), noise.flatten()


def _factors(denoiser: Denoiser, t: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    return clean_factors(
        lambda latents, noise: denoiser.add_noise(latents, noise, t),
        lambda latents, noise: denoiser.target(latents, noise, t),
        like,
    )


def _one_each(denoiser: Denoiser, t: Tensor) -> Tensor:
    """A one `[B, 1, …]` for each time, which goes with latents."""
    return t.new_ones(len(t), *[1] * len(denoiser.latent_shape))
