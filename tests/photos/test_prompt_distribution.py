"""The distribution of prompts: it goes down the loss whatever its scale, and its spread is what the paper means."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from anonymize_faces.photos.denoising import CountedDenoiser
from anonymize_faces.photos.prompt_distribution import PromptDistribution, spread_of


class Bowl(CountedDenoiser):
    """A denoiser whose loss is a bowl around states of ones."""

    def __init__(self, scale: float) -> None:
        super().__init__(self)  # type: ignore[arg-type]
        self._scale = scale

    def with_states(self, conditioning: Any, states: Any) -> Any:
        return states

    def losses(self, latents: Any, noise: Any, t: Any, conditioning: Any) -> torch.Tensor:
        self.passes += 1
        return torch.stack([self._scale * (states - 1).square().mean() for states in conditioning])


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e5])
def test_descent_does_not_depend_on_the_scale_of_the_loss(scale: float) -> None:
    start = torch.full((1, 7, 4), 0.5) + 0.1 * torch.randn(1, 7, 4, generator=torch.Generator().manual_seed(0))
    found, counted = PromptDistribution(start.clone(), start.clone()), Bowl(scale)
    for _ in range(8):
        found.descend(counted, torch.zeros(1), torch.zeros(1), torch.zeros(1), [None])
    assert float((found.mean - 1).square().mean()) < 0.3 * float((start - 1).square().mean())
    assert 0 <= found.spread <= float(start.std())
    # Six steps first, two in each later one; two passes a step and one for the plain prompt.
    assert counted.passes == (2 * 6 + 1) + 7 * (2 * 2 + 1)


def test_the_spread_is_the_root_of_the_variance_and_bounded() -> None:
    start = torch.randn(1, 50, 20, generator=torch.Generator().manual_seed(0))
    mean = start + 0.1
    assert spread_of(start, mean, 0.05) == pytest.approx((0.01 / (2 * 0.05)) ** 0.5, rel=1e-4)
    assert spread_of(start, mean, 1e-4) == pytest.approx(float(start.std()))
    assert spread_of(start, mean, 0.0) == 0.0
