"""What the denoiser takes noised photos for, whatever it predicts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from anonymize_faces.photos.denoising import CountedDenoiser, gradient_of


def test_a_denoiser_that_answers_as_it_ought_to_sees_the_latents_themselves(
    checkpoint: Any, make_denoiser: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    denoiser = make_denoiser(checkpoint)
    random = torch.Generator().manual_seed(0)
    latents, noise = (torch.randn(3, *denoiser.latent_shape, generator=random) for _ in range(2))
    t = torch.tensor([0.1, 0.5, 0.9])
    monkeypatch.setattr(denoiser, "predict", lambda noised, t, told: denoiser.target(latents, noise, t))
    counted = CountedDenoiser(denoiser)
    torch.testing.assert_close(counted.clean(latents, noise, t, []), latents, rtol=1e-2, atol=1e-2)
    assert float(counted.losses(latents, noise, t, []).sum()) == 0 and counted.passes == 2


def test_gradients_reach_latents_and_the_prompts_states(checkpoint: Any, make_denoiser: Callable[..., Any]) -> None:
    denoiser = make_denoiser(checkpoint)
    counted = CountedDenoiser(denoiser)
    with denoiser.gradients(1):
        with torch.no_grad():
            conditioning = denoiser.encode(["a photo of sks person"])
        (states,) = denoiser.states(conditioning)
        states = states.detach().clone().requires_grad_()
        latents, noise = (
            torch.randn(1, *denoiser.latent_shape).requires_grad_(),
            torch.randn(1, *denoiser.latent_shape),
        )
        told = denoiser.with_states(conditioning, [states])
        for wanted in (latents, states):
            losses = counted.losses(latents, noise, torch.tensor([0.5]), told)
            assert float(gradient_of(losses, wanted).abs().sum()) > 0
