"""Makes prefixes that fit the stand-ins for Automatic1111 and Forge."""

from __future__ import annotations

import torch

from anonymize_faces.prefix import Prefix, PrefixRecord
from anonymize_faces.tests.support.web_ui import encoders

FAMILIES = {"sd1": "l", "sd2": "h", "sdxl": "gl", "flux": "l t5xxl"}


def prefix(family: str, m: int = 10, seed: int = 0) -> Prefix:
    """A prefix of random vectors."""
    generator = torch.Generator().manual_seed(seed)
    keys = FAMILIES[family].split() if " " in FAMILIES[family] else list(FAMILIES[family])
    vectors = {key: torch.randn(m, encoders.WIDTHS[key], generator=generator) for key in keys}
    return Prefix(vectors, PrefixRecord(family=family, fingerprint=""))
