"""Tells where a prompt's words stand in what text encoders make of it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor

from ..prefix import ClipChunks, Frame, encoder_layout, words
from ..prefix.injection.stream import inject_stream
from ..prefix.injection.tokens import Tokens
from ..runs.digest import digest_of
from .denoiser import TextStates


def text_states(
    tokens: Tokens, frame: Frame, encoders: Collection[str], states: Tensor, pooled: Tensor | None, prefix: int
) -> tuple[TextStates, ...] | None:
    """What each text encoder says in a prompt's conditioning; None where that cannot be told apart.

    It can where there is one stream at most. Its states stand last, behind those of CLIPs if there are any (SD3); where
    CLIPs give their pooled output alone (Flux), that is what they say. What the host cuts off a stream (chat templates)
    it cuts off in front.

    Args:
        tokens: the prompt's, without a prefix; they may hold more than the encoders read.
        frame: what the tokenizer puts around the prompt.
        encoders: the keys of those that there are.
        states: `[length, d]`, of the prompt with a prefix of so many vectors.
        pooled: `[d]`.
    """
    clips = [key for key in encoders if isinstance(encoder_layout(key), ClipChunks)]
    streams = [key for key in encoders if key not in clips and encoder_layout(key).required]
    if len(streams) > 1 or not (clips or streams):
        return None
    found: list[TextStates] = []
    before = len(states)
    if streams:
        (stream,) = streams
        if len(tokens[stream]) != 1:
            return None
        (chunk,) = tokens[stream]
        around = frame.streams[stream]
        entries = inject_stream(stream, chunk, torch.zeros(prefix, 1), around)
        before = max(0, len(states) - len(entries))
        cut = max(0, len(entries) - len(states))
        own = _words(stream, tokens, frame)
        start = around.place(stream, chunk) + prefix - cut
        if start < prefix:
            return None
        found.append(TextStates(states[before:], own, start + len(own), is_stream=True))
    if clips and before:
        if before != len(tokens[clips[0]][0]):
            return None
        own = _words(clips[0], tokens, frame)
        found.insert(0, TextStates(states[:before], own, 1 + prefix + len(own)))
    elif before:
        return None
    if clips and streams and pooled is not None:
        found.append(TextStates(pooled.reshape(1, -1), (), 0))
    return tuple(found)


def _words(key: str, tokens: Tokens, frame: Frame) -> tuple[int, ...]:
    return tuple(_identifier(entry[0]) for entry in words(key, tokens, frame))


def _identifier(token: Any) -> int:
    """A number that tells a token from others; an embedding of the user's own is told by its values."""
    return -int(digest_of(token.detach()), 16) if isinstance(token, Tensor) else int(token)
