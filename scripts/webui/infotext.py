"""Notes in a picture's infotext what protected it, and reads it back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...prefix.layers import listed
from .layers import clip_skips
from .protection import Protection

PREFIX = "Anonymize Faces prefix"
STRENGTH = "Anonymize Faces strength"
HASH = "Anonymize Faces hash"
CLIP_SKIP = "Anonymize Faces holds at Clip skip"
NAMES = (PREFIX, STRENGTH, HASH, CLIP_SKIP)
"""What stands in infotexts."""


def note(parameters: dict[str, Any], protection: Protection | None) -> None:
    """Writes into a request's parameters what protects it, and nothing if nothing does."""
    for name in NAMES:
        parameters.pop(name, None)
    if protection is not None:
        parameters |= {PREFIX: protection.name, STRENGTH: protection.strength, HASH: protection.digest[:10]}
        if skips := clip_skips(protection.prefix.record, protection.prefix.vectors.keys()):
            parameters[CLIP_SKIP] = listed([str(skip) for skip in skips])


def was_on(parameters: Mapping[str, Any]) -> bool | None:
    """Whether an infotext says that it was protected; None, which leaves the panel as it is, if it says nothing."""
    return True if PREFIX in parameters else None
