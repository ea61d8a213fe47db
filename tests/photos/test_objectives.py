"""Objectives: what the released code computes, and what a mix of prompts asks."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from anonymize_faces.photos.denoising import CountedDenoiser
from anonymize_faces.photos.objectives import ADDITIONS, AsReleased, MixedPrompts
from anonymize_faces.photos.settings import PAPER, PROMPT_MIX, UNSEEN_PROMPTS, ProtectionSettings


class StatesAlone:
    """A denoiser of which nothing is asked but states of prompts, of a width and spread."""

    def __init__(self, spread: float = 1.0) -> None:
        self.read: list[str] = []
        self._spread = spread

    def encode(self, prompts: list[str]) -> list[Any]:
        self.read += prompts
        random = torch.Generator().manual_seed(0)
        return [0.5 + self._spread * torch.randn(1, 7, 4, generator=random) for _ in prompts]

    def states(self, conditioning: Any) -> Any:
        return list(conditioning)

    def with_states(self, conditioning: Any, states: Any) -> Any:
        return list(states)


class BowlAndNoise(CountedDenoiser):
    """The loss is a bowl around states of ones; keeps the noise that it was asked with."""

    def losses(self, latents: Any, noise: torch.Tensor, t: Any, conditioning: Any) -> torch.Tensor:
        self.noise = noise
        return torch.stack([(states - 1).square().mean() for states in conditioning])


@pytest.mark.parametrize("spread", [0.1, 0.01])
def test_the_released_spread_is_the_square_of_the_variance_up_to_that_of_the_prompt(spread: float) -> None:
    objective = AsReleased(StatesAlone(spread), ProtectionSettings(method=PAPER))  # type: ignore[arg-type]
    objective.counted = BowlAndNoise(objective.counted.denoiser)
    start = objective.distribution.start
    objective.prepare(torch.zeros(1, 4, 64, 64), [5], 0)
    mean = objective.distribution.mean
    fall = float((start - 1).square().mean() - (mean - 1).square().mean())
    variance = 0.5 * float((start - mean).square().mean()) / fall
    assert 0.02 < variance**2 < 0.05, "so that one of the two is cut off"
    expected = min(variance**2, float(start.std()))
    assert objective.distribution.spread == pytest.approx(expected, rel=1e-3)


def test_the_released_descent_and_the_step_after_it_see_the_same_noise_of_each_photo() -> None:
    objective = AsReleased(StatesAlone(), ProtectionSettings(method=PAPER))  # type: ignore[arg-type]
    counted = objective.counted = BowlAndNoise(objective.counted.denoiser)
    objective.prepare(torch.zeros(2, 4, 8, 8), [4, 6], 3)
    seen, asked = counted.noise, torch.zeros(1, 4, 8, 8).requires_grad_()
    counted.losses = lambda latents, noise, t, told: (seen_later.append(noise), latents.flatten(1).sum(1))[1]  # type: ignore[method-assign]
    seen_later: list[torch.Tensor] = []
    objective.gradient(asked, None, [6], 3)
    assert torch.equal(seen_later[0][0], seen[1])


def test_a_mix_asks_for_another_prompt_in_each_step_and_none_that_an_attacker_draws() -> None:
    denoiser = StatesAlone()
    objective = MixedPrompts(denoiser, ProtectionSettings(method=PROMPT_MIX))  # type: ignore[arg-type]
    asked = [objective._drawn(3, step) for step in range(60)]
    assert all(len({id(one) for one in told}) == 1 for told in asked), "one for all photos"
    assert len({id(told[0]) for told in asked}) == len(ADDITIONS)
    assert not set(denoiser.read) & set(UNSEEN_PROMPTS)
