"""What a denoiser answers, taken apart: where a sampler goes by it, and how much its error weighs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from anonymize_faces.finetuning.drawings import EDGE
from anonymize_faces.finetuning.predictions import min_snr_weights, moved_by

Make = Callable[..., Any]


@pytest.mark.parametrize("parameterization", ["EPS", "V_PREDICTION", "FLOW"])
def test_the_true_answer_leads_to_the_same_picture_with_less_noise(
    parameterization: str, make_checkpoint: Make, make_denoiser: Make
) -> None:
    denoiser = make_denoiser(make_checkpoint(parameterization))
    latents, noise = torch.randn(2, 3, *denoiser.latent_shape, generator=torch.Generator().manual_seed(0))
    t, later = torch.tensor([0.9, 0.5, 0.2]), torch.tensor([0.7, 0.1, EDGE])
    answers = denoiser.target(latents, noise, t)
    moved = moved_by(denoiser, denoiser.add_noise(latents, noise, t), t, later, answers)
    assert torch.allclose(moved, denoiser.add_noise(latents, noise, later), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("parameterization", ["EPS", "V_PREDICTION", "FLOW"])
def test_errors_of_pictures_weigh_as_the_signal_does_up_to_a_limit(
    parameterization: str, make_checkpoint: Make, make_denoiser: Make
) -> None:
    denoiser = make_denoiser(make_checkpoint(parameterization))
    latents, noise = torch.randn(2, 4, *denoiser.latent_shape, generator=torch.Generator().manual_seed(0))
    t, wrong = torch.tensor([0.95, 0.7, 0.4, 0.05]), 0.1
    mixed = denoiser.add_noise(latents, noise, t)
    # A picture that is wrong in the same latents with noise has other noise to make up for it.
    signal = denoiser.add_noise(torch.ones_like(latents), torch.zeros_like(latents), t).flatten(1)[:, 0]
    spread = denoiser.add_noise(torch.zeros_like(latents), torch.ones_like(latents), t).flatten(1)[:, 0]
    other = noise - wrong * (signal / spread).reshape(-1, *[1] * (noise.ndim - 1))
    assert torch.allclose(denoiser.add_noise(latents + wrong, other, t), mixed, rtol=1e-3, atol=1e-3)
    errors = (denoiser.target(latents + wrong, other, t) - denoiser.target(latents, noise, t)).flatten(1)
    weighed = errors.square().mean(1) * min_snr_weights(denoiser, latents, t, 1.0)
    asked = wrong**2 * (signal / spread).square().clamp_max(1.0)
    assert torch.allclose(weighed, asked.to(weighed), rtol=1e-2, atol=1e-5)
