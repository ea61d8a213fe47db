"""Finds the text encoders that a CLIP of the host has, their embedding tables and their fingerprint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from ...prefix import encoder_layout, fingerprint, key_of, looked_at
from ...prefix.errors import PrefixMismatchError
from ...prefix.meta_network import IN_WORDS, part_name
from ...runs.weights import device_of, is_plain, weights_of

EMBEDDING = "Embedding"
"""What hosts and extensions call tables that return their weights as they are."""


@looked_at("text encoder")
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
        encoder_layout(key)
    return found


@looked_at("tokenizer")
def tokenized_keys(clip: Any) -> frozenset[str]:
    """The encoders that the tokenizer of the host's CLIP has words for."""
    return frozenset(clip.tokenize(""))


@looked_at("text encoder")
def embedding_table(encoder: Any) -> Any:
    """The encoder's table of token embeddings: a module with `weight` `[vocabulary, d]` and `embedding_dim`."""
    return encoder.transformer.get_input_embeddings()


@looked_at("text encoder")
def embedding_width(encoder: Any) -> int:
    """How wide the encoder's token embeddings are."""
    return embedding_table(encoder).embedding_dim


@torch.no_grad()
def rows_of(table: Any, words: Sequence[int]) -> Tensor:
    """A table's weights for the numbers of some words, `[n, d]` float32 on the CPU, in whatever form they are kept."""
    if is_plain(table.weight):
        return table.weight[list(words)].float().cpu()
    numbers = torch.tensor(list(words), dtype=torch.long, device=device_of(table))
    of: Any = next(base for base in type(table).__mro__ if base.__name__ == EMBEDDING)
    return of.forward(table, numbers, out_dtype=torch.float32).float().cpu()


@looked_at("text encoder")
def vectors_for(encoders: Mapping[str, Any], vectors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The vectors of a prefix, or all of its parameters, as the encoders' networks want them; differentiable.

    A prefix's vectors have the scale of the table's weights. Gemma multiplies them: older hosts inside the network,
    newer ones where they look a word up, so that there whoever puts in vectors must do it himself.
    """
    by_key = {key: scale_of_words(encoders[key]) for key in vectors if key in encoders}
    scales = {part_name(key, part): scale for key, scale in by_key.items() for part in IN_WORDS} | by_key
    return {key: rows if scales.get(key, 1.0) == 1.0 else rows * scales[key] for key, rows in vectors.items()}


@torch.no_grad()
def scale_of_words(encoder: Any) -> float:
    """By how much a text encoder's table of embeddings multiplies its weights where it looks words up."""
    table = embedding_table(encoder)
    if type(table).__name__ == EMBEDDING:
        return 1.0
    rows = rows_of(table, range(64))
    looked_up = table(torch.arange(len(rows), device=device_of(table)), out_dtype=torch.float32).cpu()
    largest = rows.abs().argmax()
    return float(looked_up.flatten()[largest] / rows.flatten()[largest])


_KNOWN: WeakKeyDictionary[Any, str] = WeakKeyDictionary()


def encoder_fingerprint(clip: Any) -> str:
    """`prefix.fingerprint` of the weights of the host's CLIP, before LoRAs; computed once for each model in memory.

    Empty for weights of a kind that cannot be looked into: not to know them is no reason to stop.
    """
    model = clip.patcher.model
    if model not in _KNOWN:
        try:
            # The host writes LoRAs into the weights for as long as they are loaded, and keeps what was there.
            kept = {name: backup.weight for name, backup in clip.patcher.backup.items()}
            _KNOWN[model] = fingerprint(weights_of(model) | kept)
        except (PrefixMismatchError, RuntimeError, TypeError, ValueError, AttributeError, LookupError):
            _KNOWN[model] = ""
    return _KNOWN[model]
