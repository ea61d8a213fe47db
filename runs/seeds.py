"""Derives the seeds of a run, and spreads its times and learning rates."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


def derived_seed(seed: int, purpose: str, index: int = 0) -> int:
    """A seed of 63 bits for one purpose and one item, from the run's own seed, which may be any whole number."""
    digest = hashlib.blake2b(f"{seed}/{purpose}/{index}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def generator(seed: int, purpose: str, index: int = 0) -> torch.Generator:
    """A generator on the CPU that starts from `derived_seed`."""
    return torch.Generator().manual_seed(derived_seed(seed, purpose, index))


def noise_of(shape: tuple[int, ...], seed: int) -> Tensor:
    """The noise that a picture of this seed begins as, `[*shape]` float32 on the CPU, as hosts make it."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@contextmanager
def cpu_seeded(seed: int) -> Iterator[None]:
    """Inside, torch's own generator on the CPU starts from a seed, for code that takes none; then it is as it was.

    `torch.manual_seed` would seed those of all devices as well, which nobody puts back: what is made inside is made on
    the CPU, and moved.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


STRATA = 50


def stratified_times(count: int, generator: torch.Generator) -> Tensor:
    """Times `[count]` in (0, 1), spread evenly over 50 strata (docs/METHODS.md 1.5), in random order, float32.

    Fewer than 50 times lie in different strata.
    """
    rounds = max(1, math.ceil(count / STRATA))
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
