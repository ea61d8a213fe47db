"""Defines the types of the host's tokens, and what two tokens have in common.

The host's token structure is `{encoder key: [chunk, ...]}`; a chunk is a list of `(token, weight)` or
`(token, weight, word id)`; a token is an int, an embedding of the user's own, or a mapping that stands for an image.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

Entry = Sequence[Any]
Chunk = Sequence[Entry]
Tokens = Mapping[str, Sequence[Chunk]]

Tokenize = Callable[[str], Tokens]
"""The host's tokenizer, with whatever arguments the caller gave it."""


def entry_like(style: Entry, token: Any) -> Entry:
    """An entry of the kind and length of `style`, with weight 1 and word id 0, the host's for what is no word."""
    kind: Callable[[Any], Entry] = type(style)
    return kind((token, 1.0, 0)[: len(style)])


def is_structure(entry: Entry, token: Any) -> bool:
    """Whether an entry is this whole-number token, put in by the host and not by the user, as far as can be told."""
    same = isinstance(entry[0], int) and entry[0] == token
    return same and entry[1] == 1.0 and (len(entry) < 3 or entry[2] == 0)


def is_row(token: Any, row: Tensor) -> bool:
    """Whether a token is this vector of a prefix."""
    return isinstance(token, Tensor) and token.shape == row.shape and torch.equal(token.to(row), row)


def place_of_rows(chunk: Chunk, vectors: Tensor) -> int | None:
    """Where in a chunk the whole prefix begins; None if it is not there."""
    starts = range(len(chunk) - len(vectors) + 1)
    return next((s for s in starts if all(is_row(chunk[s + n][0], row) for n, row in enumerate(vectors))), None)


def with_rows(chunk: Chunk, start: int, rows: Tensor) -> list[Entry]:
    """The chunk with vectors `[m, d]` in the place of as many entries, from `start` on."""
    return [*chunk[:start], *(entry_like(chunk[0], row) for row in rows), *chunk[start + len(rows) :]]


def with_row(chunk: Chunk, places: Sequence[int], row: Tensor) -> list[Entry]:
    """The chunk with one vector `[d]` in the place of each of some entries, with their weights."""
    changed = list(chunk)
    for place in places:
        entry = chunk[place]
        kind: Callable[[Any], Entry] = type(entry)
        changed[place] = kind((row, *entry[1:]))
    return changed


def embeddings_of(chunk: Chunk, table: Callable[[Sequence[int]], Tensor]) -> Tensor:
    """What is read for each entry of a chunk, `[length, d]` float32 on the processor.

    Args:
        table: looks up the embeddings `[n, d]` of numbers of words.
    """
    numbers = [entry[0] for entry in chunk if not isinstance(entry[0], Tensor)]
    found = iter(table(numbers).float().cpu())
    rows = [entry[0].detach().float().cpu() if isinstance(entry[0], Tensor) else next(found) for entry in chunk]
    return torch.stack(rows)


def without_rows(chunk: Chunk, start: int, count: int, pad: int | None = None) -> list[Entry]:
    """The chunk without `count` entries from `start` on: what stands behind moves up, and padding follows.

    Args:
        pad: what is padded with; None repeats the last entry, for hosts that put their padding in themselves.
    """
    padding = chunk[-1] if pad is None else entry_like(chunk[0], pad)
    return [*chunk[:start], *chunk[start + count :], *[padding] * count]


def words_alone(chunk: Chunk, rows: Tensor | None = None) -> bool:
    """Whether a chunk holds numbers of words and nothing else, but for the rows `[m, d]` of a prefix."""
    start = None if rows is None else place_of_rows(chunk, rows)
    own = range(0) if rows is None or start is None else range(start, start + len(rows))
    return all(place in own or isinstance(entry[0], int) for place, entry in enumerate(chunk))


def same_as_before(words: Sequence[int | None]) -> list[bool]:
    """Whether each word is the one before it; None stands for a vector, which never is."""
    return [False, *(one is not None and one == two for one, two in pairwise(words))]


def common_start(one: Chunk, other: Chunk) -> int:
    """How many entries two chunks have in common before they part."""
    count = 0
    for first, second in zip(one, other, strict=False):
        if not _same(first[0], second[0]):
            break
        count += 1
    return count


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor) or isinstance(other, Tensor):
        return isinstance(other, Tensor) and is_row(one, other)
    if isinstance(one, Mapping) or isinstance(other, Mapping):
        return isinstance(one, Mapping) and isinstance(other, Mapping)
    return bool(one == other)
