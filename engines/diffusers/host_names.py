"""Names the weights of a pipeline's text encoders as ComfyUI does, so that their fingerprints agree.

A fingerprint is of weights and their names. ComfyUI's names are the ones that count; here are those of transformers,
told as ComfyUI would.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ...prefix import ClipChunks, encoder_layout
from ...runs.weights import weights_of

T5_TABLE_AGAIN = "encoder.embed_tokens.weight"
"""A second name of T5's table of words."""


def host_names(encoders: Mapping[str, Any]) -> dict[str, Tensor]:
    """The weights of text encoders under the names that they have in ComfyUI.

    Args:
        encoders: of transformers, by their keys in a prefix.
    """
    found = {}
    for key, model in encoders.items():
        row = encoder_layout(key)
        for name, weight in weights_of(model).items():
            if isinstance(row, ClipChunks):
                # Newer versions of transformers leave this word out.
                name = f"text_model.{name.removeprefix('text_model.')}"
            if name != T5_TABLE_AGAIN:
                found[f"{row.attribute}.transformer.{name}"] = weight
    return found
