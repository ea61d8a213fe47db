"""Without this module the tests of the prefix could not use the host's real tokenizers and text encoders in-process."""

from __future__ import annotations

import pytest
import torch

from anonymize_faces.prefix import Prefix, PrefixRecord

RECORD = PrefixRecord(family="sd1", fingerprint="0" * 16)


@pytest.fixture(scope="session")
def comfy(host_modules):
    """The host's package, on the CPU."""
    import comfy.sd1_clip

    return comfy


@pytest.fixture(scope="session")
def make_prefix():
    """Builds a prefix of m vectors with the widths given, by encoder key."""

    def make(m: int = 10, seed: int = 0, **widths: int) -> Prefix:
        generator = torch.Generator().manual_seed(seed)
        return Prefix({key: torch.randn(m, d, generator=generator) for key, d in widths.items()}, RECORD)

    return make
