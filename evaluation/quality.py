"""Without this module nobody would know what a prefix costs in quality: CLIP score, FID and KID, through torchmetrics.

An optional package (`pip install torchmetrics[image,multimodal]`), with weights of its own.
"""

from __future__ import annotations

from typing import Protocol


class Quality(Protocol):
    """Measures pictures against their prompts and against other pictures."""
