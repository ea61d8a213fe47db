"""Without this module times and learning rates would be drawn anyhow: how both are spread over a run."""

from __future__ import annotations

import math

import torch
from torch import Tensor

STRATA = 50


def stratified_times(count: int, generator: torch.Generator) -> Tensor:
    """Times `[count]` in (0, 1), spread evenly over 50 strata (METHODS.md 1.5), in random order, float32.

    Fewer than 50 times lie in different strata.
    """
    rounds = math.ceil(count / STRATA)
    strata = torch.cat([torch.randperm(STRATA, generator=generator) for _ in range(rounds)])[:count]
    within = torch.rand(count, generator=generator).clamp(1e-3, 1 - 1e-3)
    return (strata + within) / STRATA


def rate_factor(step: int, steps: int, warmup: float) -> float:
    """Share of the peak learning rate at a step (from 0): a linear rise, then half a cosine towards zero.

    Args:
        warmup: share of the steps that the rise takes.
    """
    rising = max(1, round(steps * warmup))
    if step < rising:
        return (step + 1) / (rising + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))
