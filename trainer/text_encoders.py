"""Without this module nobody would find the text encoders that a CLIP of the host really has."""

from __future__ import annotations

from typing import Any

from ..prefix import family_of, key_of
from ..prefix.errors import PrefixMismatchError


def text_encoders(stage: Any) -> dict[str, Any]:
    """The text encoders, by their keys in the host's tokens; a tokenizer may have words for others too.

    Args:
        stage: the `cond_stage_model` of the host's CLIP.

    Raises:
        PrefixMismatchError: there is none, or one that no prefix can enter.
    """
    found = {key_of(name): part for name, part in stage.named_children() if hasattr(part, "transformer")}
    if not found:
        raise PrefixMismatchError(
            f"This CLIP ({type(stage).__name__}) has no text encoder that a prefix could enter: use a checkpoint of a"
            " supported family."
        )
    for key in found:
        family_of(key)
    return found


def embedding_table(encoder: Any) -> Any:
    """The encoder's table of token embeddings: a module with `weight` `[vocabulary, d]` and `embedding_dim`."""
    return encoder.transformer.get_input_embeddings()
