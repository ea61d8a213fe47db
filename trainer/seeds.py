"""Without this module random numbers of different purposes would repeat each other: seeds that are told apart."""

from __future__ import annotations

import hashlib

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
