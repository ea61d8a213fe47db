"""Makes prefixes of random vectors, for all tests."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch

from anonymize_faces.prefix import Prefix, PrefixRecord
from anonymize_faces.prefix.face_region import FaceRegionHead, tensors_of

DEMO_WIDTH = 192
"""Of the demo model's token embeddings."""


def random_prefix(
    widths: Mapping[str, int],
    m: int = 10,
    seed: int = 0,
    scale: float = 1.0,
    family: str = "sd1",
    fingerprint: str = "0" * 16,
    **record: Any,
) -> Prefix:
    """A prefix of m vectors for each text encoder, normal with standard deviation `scale`; the same for the same seed.

    Args:
        widths: of each encoder's token embeddings, by its key.
        record: what the record says beside family and fingerprint.
    """
    generator = torch.Generator().manual_seed(seed)
    vectors = {key: scale * torch.randn(m, width, generator=generator) for key, width in widths.items()}
    return Prefix(vectors, PrefixRecord(family=family, fingerprint=fingerprint, **record))


def numbers(prefix: Prefix) -> torch.Tensor:
    """All that a prefix is, in a row: its vectors, and what makes others of them."""
    return torch.cat([tensor.flatten() for tensor in prefix.parameters.values()])


def demo_prefix(seed: int = 0, width: int = DEMO_WIDTH, key: str = "l", **record: Any) -> Prefix:
    """A prefix that the demo model takes, or, with another width or key, does not."""
    return random_prefix({key: width}, seed=seed, scale=0.1, **record)


def random_region(channels: int = 12, seed: int = 0, threshold: float = 0.0, steepness: float = 1.0) -> dict[str, Any]:
    """A head that sees faces anywhere, the same for the same seed, as a prefix holds it.

    Args:
        threshold: of the middle share; that of others is lower, or higher, by `steepness` times their distance from it.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = FaceRegionHead(channels)
    shares = torch.tensor([0.5, 0.75, 0.95])
    thresholds = threshold - steepness * (shares - 0.75)
    return tensors_of(head, torch.tensor([0.01, 0.95]), shares, thresholds.repeat(2, 1))


def with_random_region(prefix: Prefix, **about: Any) -> Prefix:
    """The prefix with `random_region`."""
    return dataclasses.replace(prefix, face_region=random_region(**about))
