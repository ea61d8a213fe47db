"""What a denoiser takes noised latents for, for every parameterization."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from anonymize_faces.engines.clean import picture_weights

Make = Callable[..., Any]


@pytest.mark.parametrize("parameterization", ["EPS", "V_PREDICTION", "FLOW"])
def test_errors_weigh_as_those_of_the_pictures_that_answers_mean(
    parameterization: str, make_checkpoint: Make, make_denoiser: Make
) -> None:
    denoiser = make_denoiser(make_checkpoint(parameterization))
    latents, noise = torch.randn(2, 4, *denoiser.latent_shape, generator=torch.Generator().manual_seed(0))
    t, wrong = torch.tensor([0.95, 0.7, 0.4, 0.05]), 0.1
    ones, zeros = torch.ones_like(latents), torch.zeros_like(latents)
    # Latents with noise stay as they are: a picture that is wrong has other noise to make up for it.
    other = noise - wrong * denoiser.add_noise(ones, zeros, t) / denoiser.add_noise(zeros, ones, t)
    assert torch.allclose(
        denoiser.add_noise(latents + wrong, other, t), denoiser.add_noise(latents, noise, t), rtol=1e-3, atol=1e-3
    )
    errors = denoiser.target(latents + wrong, other, t) - denoiser.target(latents, noise, t)
    weighed = errors.square().flatten(1).mean(1) * picture_weights(denoiser, t)
    assert torch.allclose(weighed, torch.full_like(weighed, wrong**2), rtol=1e-2)
