"""Without this module nobody would find the text encoder that belongs to a key of the host's tokens."""

from __future__ import annotations

from typing import Any

from ..prefix.errors import PrefixMismatchError


def text_encoder(stage: Any, key: str) -> Any:
    """The text encoder of a key; the host names its attribute after the key, with or without `clip_`.

    Args:
        stage: the `cond_stage_model` of the host's CLIP.
        key: the encoder's key in the host's tokens.

    Raises:
        PrefixMismatchError: there is none.
    """
    for name in (f"clip_{key}", key):
        if hasattr(stage, name):
            return getattr(stage, name)
    raise PrefixMismatchError(
        f"This CLIP has no text encoder where '{key}' should be: connect a supported checkpoint's CLIP."
    )
