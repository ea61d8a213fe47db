"""Places a prefix in the chunks of several prompts at once, as extensions in the manner of Automatic1111 lay them out.

There a tokenizer takes a list of prompts, and a chunk is a pair: the tokens and the weights, both `[prompts][length]`.
Short prompts have blank chunks at the end, so that all have as many. (smZNodes' parsers "A1111", "full", "compel" and
"fixed attention".)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor

from ..errors import PrefixMismatchError
from .chunks import inject_chunks, words_of_chunk
from .encoder_layouts import ClipChunks
from .tokens import Chunk, entry_like

_EMBEDDING = 0
"""The token that such a tokenizer puts where an embedding of the user's own is to go, by its place in the chunk."""


def is_batched(chunks: Any) -> bool:
    """Whether the chunks of an encoder are laid out so."""
    return isinstance(chunks, list | tuple) and len(chunks) > 0 and all(map(_is_pair, chunks))


def prompts_of(chunks: Sequence[Any]) -> list[list[Chunk]]:
    """The chunks of each prompt, with entries `(token, weight)`."""
    return [
        [list(zip(tokens[prompt], weights[prompt], strict=True)) for tokens, weights in chunks]
        for prompt in range(len(chunks[0][0]))
    ]


def batched(prompts: Sequence[Sequence[Chunk]]) -> list[Any]:
    """The inverse of `prompts_of`."""
    return [
        tuple([[entry[part] for entry in chunk] for chunk in together] for part in (0, 1))
        for together in zip(*prompts, strict=True)
    ]


def inject_batched(key: str, chunks: Sequence[Any], vectors: Tensor, layout: ClipChunks, pad: int) -> list[Any]:
    """Chunks of which each carries the prefix; words stay apart where a chunk ended before it was full.

    Args:
        layout: with such a tokenizer's own padding, the end token.
        pad: the encoder's padding token; it takes its place, as these encoders do with tokens that are numbers.

    Raises:
        PrefixMismatchError: as `inject_chunks`, or there may be an embedding of the user's own, whose place is known to
            the encoder alone: it would be put over the prefix.
    """
    prompts = [
        [part for run in _runs(key, prompt, layout) for part in inject_chunks(key, run, vectors, layout)]
        for prompt in prompts_of(chunks)
    ]
    style = prompts[0][0][0]
    blank = [entry_like(style, layout.start), *[entry_like(style, layout.end)] * (len(prompts[0][0]) - 1)]
    (empty,) = inject_chunks(key, [blank], vectors, layout)
    most = max(map(len, prompts))
    return batched([[_padded(chunk, layout.end, pad) for chunk in (*p, *[empty] * (most - len(p)))] for p in prompts])


def _runs(key: str, chunks: Sequence[Chunk], layout: ClipChunks) -> Iterator[list[Chunk]]:
    """Chunks whose words belong together: all of a run but the last are full."""
    run: list[Chunk] = []
    for chunk in chunks:
        words = words_of_chunk(key, chunk, layout)
        if any(isinstance(token, int) and token == _EMBEDDING for token, _ in words):
            raise PrefixMismatchError(
                "This prompt may hold an embedding (token 0), which this node's parser would put over the prefix: take"
                " 'embedding:' and '!' within words out of it, or encode it with CLIP Text Encode."
            )
        run.append(chunk)
        if len(words) < len(chunk) - 2:
            yield run
            run = []
    if run:
        yield run


def _padded(chunk: Chunk, end: int, pad: int) -> Chunk:
    """The chunk with padding behind its first end token."""
    place = next(index for index, entry in enumerate(chunk) if isinstance(entry[0], int) and entry[0] == end)
    return [*chunk[: place + 1], *[entry_like(chunk[0], pad)] * (len(chunk) - place - 1)]


def _is_pair(chunk: Any) -> bool:
    return (
        isinstance(chunk, tuple)
        and len(chunk) == 2
        and all(isinstance(part, list) and part and all(isinstance(row, list) for row in part) for part in chunk)
        and [*map(len, chunk[0])] == [*map(len, chunk[1])]
    )
