"""Learns embeddings for words that a text encoder does not know, in place of those in its table.

An encoder that has learned to pass over what it does not know hardly tells one such word from another, so that a
denoiser beside it has nothing to learn from (docs/METHODS.md 7.4). The table itself is never written to: wherever one
of the words stands, the learned vector is handed to the host as an embedding of the user's own is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ...prefix import encoder_layout, frame_of, words
from ...prefix.errors import TrainingError
from ..denoiser import WORDS
from .text_encoders import embedding_table, rows_of, text_encoders

Tokens = Mapping[str, Any]
"""The host's tokens of a prompt, by the keys of encoders."""

LORA_FILE = "text_encoders."
"""What the host's loader of LoRA files has before the name of a text encoder's weight."""


def rows_of_words(text: str, tokenize: Callable[[str], Tokens], encoders: Mapping[str, Any]) -> dict[str, nn.Parameter]:
    """A vector `[d]` for every token of words, which starts at what the table has.

    Args:
        text: words, with commas between.

    Returns:
        The vectors by `WORDS`, the key of an encoder and the number of a token: "words.l.1538".

    Raises:
        TrainingError: no encoder has a token for them.
    """
    found: dict[str, nn.Parameter] = {}
    for word in filter(None, map(str.strip, text.split(","))):
        tokens, frame = tokenize(word), frame_of(tokenize, word)
        for key in filter(lambda key: encoder_layout(key).required, encoders):
            numbers = [entry[0] for entry in words(key, tokens, frame) if isinstance(entry[0], int)]
            rows = rows_of(embedding_table(encoders[key]), numbers) if numbers else ()
            for number, row in zip(numbers, rows, strict=True):
                found.setdefault(f"{WORDS}{key}.{number}", nn.Parameter(row.clone(), requires_grad=False))
    if not found:
        raise TrainingError(f"There is no word in new_words, '{text}': write words with commas between, or nothing.")
    return found


def with_rows(tokens: Tokens, rows: Mapping[str, Tensor]) -> dict[str, Any]:
    """Tokens in which learned vectors stand in place of the numbers of their words."""

    def entry(key: str, old: Any) -> Any:
        row = rows.get(f"{WORDS}{key}.{old[0]}") if isinstance(old[0], int) else None
        return old if row is None else (row, *old[1:])

    return {
        key: [[entry(key, old) for old in chunk] for chunk in chunks] if isinstance(chunks, list) else chunks
        for key, chunks in tokens.items()
    }


def lora_of_words(weights: Mapping[str, Tensor], clip: Any) -> dict[str, Tensor]:
    """What was learned of words as the host's LoRA files have it: a change of some rows of each table.

    Args:
        weights: of `rows_of_words`.
        clip: the host's CLIP that it was made of.
    """
    encoders = text_encoders(clip.cond_stage_model)
    names = {id(module): name for name, module in clip.cond_stage_model.named_modules()}
    found: dict[str, Tensor] = {}
    for key in encoders:
        begins = f"{WORDS}{key}."
        learned = {int(name.removeprefix(begins)): row for name, row in weights.items() if name.startswith(begins)}
        if not learned:
            continue
        table = embedding_table(encoders[key])
        layer = f"{LORA_FILE}{names[id(table)]}"
        # Zeros and ones, of which half precision loses nothing.
        chosen = torch.zeros(table.num_embeddings, len(learned), dtype=torch.float16)
        chosen[list(learned), range(len(learned))] = 1
        found[f"{layer}.lora_up.weight"] = chosen
        changed = torch.stack([row.detach().float().cpu() for row in learned.values()])
        found[f"{layer}.lora_down.weight"] = (changed - rows_of(table, list(learned))).contiguous()
    return found
