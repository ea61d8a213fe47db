"""Puts the prefix into prompts where these hosts make conditioning of tokens.

Both hosts cut a prompt into chunks with `tokenize_line` and encode each with `process_tokens`. The first is told of the
smaller room, so that commas, BREAK and embeddings keep the host's own rules. The second puts the prefix in, whatever
tokens come and wherever from: it is the only way into the text encoder.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from ...prefix import Prefix, PrefixMismatchError, blend, eject, encoder_layout, inject, require_fit
from ...prefix.injection.placing import put_in
from ...prefix.injection.tokens import (
    Chunk,
    embeddings_of,
    place_of_rows,
    same_as_before,
    with_rows,
    without_rows,
    words_alone,
)
from ...prefix.meta_network import alignment, at_places, blended_by_row, made_vectors, network_of, positions_read
from ...prefix.name_words import names_found, without_names
from .encoders import WebUiEncoder, encoder_of
from .layers import require_read, watched
from .protection import PromptGuard
from .token_rows import chunk_of, embeddings_in, row_of, with_their_vectors

Patch = Callable[[Any, str, Callable[[Callable[..., Any]], Callable[..., Any]]], None]
"""Puts, for a function of an object, what the third argument makes of it."""


def reading_classes() -> list[type]:
    """The host's classes that have the two methods.

    Raises:
        ImportError, AttributeError: this is neither Forge nor Automatic1111 as we know them.
    """
    try:
        from backend.text_processing.classic_engine import ClassicTextProcessingEngine
    except ImportError:
        from modules import sd_hijack_clip

        parent = getattr(sd_hijack_clip, "TextConditionalModel", None)
        return [parent or sd_hijack_clip.FrozenCLIPEmbedderWithCustomWordsBase]
    from backend.text_processing.t5_engine import T5TextProcessingEngine

    return [ClassicTextProcessingEngine, T5TextProcessingEngine]


def protect_encoding(guard: PromptGuard, patch: Patch) -> None:
    """Puts the prefix into whatever the host's classes encode while the guard has one."""
    for cls in reading_classes():
        patch(cls, "tokenize_line", lambda plain: lambda *args, **kwargs: _cut(guard, plain, *args, **kwargs))
        patch(cls, "process_tokens", lambda plain: lambda *args, **kwargs: _encode(guard, plain, *args, **kwargs))


def _cut(guard: PromptGuard, tokenize_line: Callable[..., Any], engine: Any, line: str) -> Any:
    protection = guard.prefixing()
    if protection is None:
        return tokenize_line(engine, line)
    return encoder_of(engine).cut(tokenize_line, line, protection.prefix.length)


def _encode(
    guard: PromptGuard,
    process_tokens: Callable[..., Any],
    engine: Any,
    tokens: Sequence[Sequence[int]],
    weights: Sequence[Sequence[float]],
) -> Any:
    protection = guard.prefixing()
    if protection is None:
        return process_tokens(engine, tokens, weights)
    encoder, vectors = encoder_of(engine), protection.prefix.vectors
    require_fit(vectors, {encoder.key: encoder.width})
    given = _chunks(encoder, tokens, weights)
    guard.require_allowed(embeddings_in(given))
    chunks = [_with_prefix(encoder, vectors, chunk) for chunk in given]
    if protection.prefix.is_conditional:
        encoded = _read_with_made(process_tokens, encoder, protection.prefix, chunks)
    else:
        encoded = _read(process_tokens, encoder, protection.prefix, chunks)
    if protection.strength < 1.0:
        bare = [_without_prefix(encoder, vectors, chunk) for chunk in chunks]
        encoded = _blended(_read(process_tokens, encoder, protection.prefix, bare), encoded, protection.strength)
    guard.witness(encoder.key)
    return encoded


def _chunks(encoder: WebUiEncoder, tokens: Sequence[Sequence[int]], weights: Sequence[Sequence[float]]) -> list[Chunk]:
    fixes = getattr(encoder.fixes, "fixes", None) or [[] for _ in tokens]
    return [chunk_of(*encoder.whole(*row), fixed) for *row, fixed in zip(tokens, weights, fixes, strict=True)]


def _with_prefix(encoder: WebUiEncoder, vectors: Any, chunk: Chunk) -> Chunk:
    injected = inject({encoder.key: [chunk]}, vectors, encoder.frame(len(chunk)), [encoder.key])[encoder.key]
    if len(injected) > 1 or len(injected[0]) != len(chunk):
        raise PrefixMismatchError(
            "Part of the prompt leaves no room for the prefix, so the picture would not be protected: shorten the"
            " embeddings in it, or switch off the old emphasis implementation and extensions that cut prompts."
        )
    return injected[0]


def _without_prefix(encoder: WebUiEncoder, vectors: Any, chunk: Chunk) -> Chunk:
    return eject({encoder.key: [chunk]}, vectors, encoder.frame(), [encoder.key])[encoder.key][0]


def _read_with_made(
    process_tokens: Callable[..., Any], encoder: WebUiEncoder, prefix: Prefix, chunks: Sequence[Chunk]
) -> Tensor:
    """What the host makes of the chunks with the vectors that are made for each, as far as their gates let it through.

    Args:
        prefix: a conditional one, whose vectors stand in the chunks.
    """
    always, network = prefix.vectors[encoder.key], network_of(prefix.networks, encoder.key)
    if network is None or encoder.network is None:
        raise PrefixMismatchError(
            f"This web UI's text encoder '{encoder.key}' does not say what this prefix needs to know of a prompt: use"
            " it in ComfyUI, or learn one with 'conditional' off."
        )
    starts = [start for chunk in chunks if (start := place_of_rows(chunk, always)) is not None]
    if len(starts) < len(chunks):
        raise PrefixMismatchError("A part of the prompt does not carry the prefix: switch off what changes prompts.")
    without = [without_rows(chunk, start, len(always)) for chunk, start in zip(chunks, starts, strict=True)]
    said: list[Tensor] = []
    hook = encoder.network.register_forward_hook(lambda *call: said.append(call[-1].last_hidden_state))
    with torch.no_grad(), closing(SimpleNamespace(close=hook.remove)):
        plain = _read(process_tokens, encoder, prefix, without)
    states = said[-1] if said else None
    if states is None or states.shape[:2] != (len(chunks), len(chunks[0])):
        raise PrefixMismatchError(
            "Nobody can say what the text encoder says of this prompt, so it would not be protected: switch off the"
            " extension that reads prompts in its own way."
        )
    same = torch.tensor([_as_before(encoder, chunk) for chunk in without], device=states.device)
    read = positions_read(same, torch.tensor(starts, device=states.device))
    made = made_vectors(always.to(states.device), network, states, read, [words_alone(chunk) for chunk in without])
    if not bool((made.gates != 0).any()):
        return plain
    words = torch.stack([embeddings_of(with_their_vectors(chunk, encoder.key), encoder.rows) for chunk in without])
    found = names_found(network, states, words, read, encoder.rows([encoder.engine.id_end])[0])
    given = [with_their_vectors(chunk, encoder.key) for chunk in chunks]  # A single one may give way as a name's.
    protected = [
        with_rows(without_names(network, chunk, names, start, len(always)), start, rows)
        for chunk, start, names, rows in zip(given, starts, found, made.vectors, strict=True)
    ]
    places = alignment(len(chunks[0]), torch.tensor(starts), len(always), len(chunks[0]) - 1)
    return _let_through(plain, _read(process_tokens, encoder, prefix, protected), places, made.gates)


def _as_before(encoder: WebUiEncoder, chunk: Chunk) -> list[bool]:
    """Whether each position holds what the one before it holds, once the host has put its padding in."""
    end, pad = encoder.engine.id_end, getattr(encoder_layout(encoder.key), "pad", None)
    tokens = [token if isinstance(token, int) else None for token, *_ in chunk]
    if pad is not None and pad != end and end in tokens:
        after = tokens.index(end) + 1
        tokens[after:] = [pad] * (len(tokens) - after)
    return same_as_before(tokens)


def _read(process_tokens: Callable[..., Any], encoder: WebUiEncoder, prefix: Prefix, chunks: Sequence[Chunk]) -> Tensor:
    with watched(encoder) as read:
        states = _processed(process_tokens, encoder, chunks)
    require_read(prefix, encoder.key, read)
    return states


def _processed(process_tokens: Callable[..., Any], encoder: WebUiEncoder, chunks: Sequence[Chunk]) -> Tensor:
    """What the host makes of chunks."""
    rows = [row_of(chunk) for chunk in chunks]
    if encoder.fixes is not None:
        encoder.fixes.fixes = [row.fixes for row in rows]
    places = [(n, place, vector) for n, row in enumerate(rows) for place, vector in row.vectors.items()]
    with put_in(encoder.table, places):
        return process_tokens(encoder.engine, [row.tokens for row in rows], [row.weights for row in rows])


def _let_through(plain: Tensor, protected: Tensor, places: Tensor, gates: Tensor) -> Tensor:
    """Each chunk's states, and its pooled output, by its gate; what is said without vectors stands at these places."""
    states = blended_by_row(at_places(plain, places), protected, gates)
    pooled = [getattr(found, "pooled", None) for found in (plain, protected)]
    if pooled[1] is not None:
        states.pooled = blended_by_row(pooled[0], pooled[1], gates[: len(pooled[1])])
    return states


def _blended(plain: Tensor, protected: Tensor, strength: float) -> Tensor:
    """The hosts keep the pooled output as an attribute of the states."""
    pooled = [getattr(states, "pooled", None) for states in (plain, protected)]
    states, pool = blend((plain, pooled[0]), (protected, pooled[1]), strength)
    if pool is not None:
        states.pooled = pool
    return states
