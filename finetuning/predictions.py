"""Takes what a denoiser answers apart into picture and noise: where a sampler goes by it, what its errors weigh.

`Denoiser.add_noise` and `Denoiser.target` are linear in latents and noise, so that either follows from the other two.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..engines.denoiser import Denoiser


@dataclass(frozen=True)
class Shares:
    """How much of clean latents and of noise is in latents with noise, and in what a denoiser is to answer.

    Attributes:
        of_clean, of_noise: in latents with noise, `[n, *latent_shape]`.
        answer_clean, answer_noise: in the answer, likewise.
    """

    of_clean: Tensor
    of_noise: Tensor
    answer_clean: Tensor
    answer_noise: Tensor

    @property
    def determinant(self) -> Tensor:
        """Of the two equations for clean latents and noise."""
        return self.of_clean * self.answer_noise - self.of_noise * self.answer_clean


def shares_of(denoiser: Denoiser, like: Tensor, t: Tensor) -> Shares:
    """The shares at times `[n]`, for latents `[n, *latent_shape]` like those."""
    ones, zeros = torch.ones_like(like), torch.zeros_like(like)
    return Shares(
        denoiser.add_noise(ones, zeros, t),
        denoiser.add_noise(zeros, ones, t),
        denoiser.target(ones, zeros, t),
        denoiser.target(zeros, ones, t),
    )


def moved_by(denoiser: Denoiser, noised: Tensor, t: Tensor, later: Tensor, answers: Tensor) -> Tensor:
    """Where a first-order sampler goes from latents with noise, by what was answered, `[n, *latent_shape]`.

    Args:
        t, later: `[n]`, the time, and the one to go to.
    """
    shares, answers = shares_of(denoiser, noised, t), answers.to(noised)
    clean = (shares.answer_noise * noised - shares.of_noise * answers) / shares.determinant
    noise = (shares.of_clean * answers - shares.answer_clean * noised) / shares.determinant
    return denoiser.add_noise(clean, noise, later)


def picture_weights(denoiser: Denoiser, like: Tensor, t: Tensor) -> Tensor:
    """Weights `[n]` of squared errors of answers, which make them errors of the pictures that these answers mean.

    So losses are the same for all parameterizations: the loss in the space of x (Salimans and Ho, arXiv 2202.00512,
    section 4). What a caption says is decided where there is much noise, and there pictures are far off.
    """
    shares = shares_of(denoiser, like, t)
    return (shares.of_noise / shares.determinant).square().flatten(1).mean(1)
