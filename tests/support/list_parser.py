"""Parses lists of prompts behind a host's CLIP, in the manner of smZNodes' parser "A1111", written anew.

As there, the tokenizers and encoders *within* the CLIP's are replaced for a while. A chunk is a pair of tokens and
weights, both `[prompts][length]`; padding is the end token until the encoder puts its own there; the tokenizer takes
nothing but a list, and raises at an empty one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

LENGTH = 75


class ListParser:
    def __init__(self, tokenizer: Any, encoder: Any) -> None:
        self._tokenizer, self._encoder = tokenizer, encoder
        self._end = tokenizer.end_token

    def tokenize_with_weights(self, texts, return_word_ids=False, **kwargs):
        prompts = [self._chunks(text) for text in list(texts)]
        count = max([len(prompt) for prompt in prompts])
        blank = [self._tokenizer.start_token, *[self._end] * (LENGTH + 1)]
        together = [[prompt[i] if i < len(prompt) else blank for prompt in prompts] for i in range(count)]
        return [(tokens, [[1.0] * len(row) for row in tokens]) for tokens in together]

    def encode_token_weights(self, chunks):
        if isinstance(chunks[0], list):
            chunks = [([[entry[0] for entry in chunk]], [[entry[1] for entry in chunk]]) for chunk in chunks]
        encoded = [self._encode(tokens) for tokens, _ in chunks]
        return torch.hstack([states for states, _ in encoded]), encoded[0][1]

    def _chunks(self, text):
        chunks = []
        for part in text.split("BREAK"):
            tokens = self._tokenizer.tokenizer(part)["input_ids"][1:-1]
            for start in range(0, max(len(tokens), 1), LENGTH):
                some = tokens[start : start + LENGTH]
                some += [self._end] * (LENGTH - len(some))
                chunks.append([self._tokenizer.start_token, *some, self._end])
        return chunks

    def _encode(self, prompts):
        try:
            tokens = torch.asarray(prompts)
            for row, prompt in enumerate(prompts):
                tokens[row, prompt.index(self._end) + 1 :] = self._tokenizer.pad_token
            return self._encoder(tokens.tolist())
        except ValueError:
            return self._encoder(prompts)


@contextmanager
def list_parser(clip: Any) -> Iterator[Any]:
    """The CLIP, whose inner parts are replaced meanwhile."""
    names = [name for name in vars(clip.tokenizer) if name.startswith("clip_") and name != "clip_name"]
    parts = [(getattr(clip.tokenizer, name), getattr(clip.cond_stage_model, name)) for name in names]
    for tokenizer, encoder in parts:
        parser = ListParser(tokenizer, encoder)
        tokenizer.tokenize_with_weights = parser.tokenize_with_weights
        encoder.encode_token_weights = parser.encode_token_weights
    try:
        yield clip
    finally:
        for tokenizer, encoder in parts:
            del tokenizer.tokenize_with_weights, encoder.encode_token_weights
