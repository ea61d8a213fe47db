"""Converts the host's rows of tokens to chunks of `prefix`, and back.

A row is what the host hands its text encoder for one chunk: whole-number tokens, a weight for each, and *fixes*, which
say where embeddings of the user's own stand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ...prefix import PrefixMismatchError
from ...prefix.injection.placing import STAND_IN
from ...prefix.injection.tokens import Chunk, Entry


@dataclass(frozen=True)
class Held:
    """A token that stands for the vector of this index of an embedding of the user's own."""

    fix: Any
    index: int


@dataclass(frozen=True)
class Row:
    """A row as the host takes it.

    Attributes:
        tokens, weights: of equal length.
        fixes: `(offset, embedding)`, the host's; an offset counts from after the start token.
        vectors: of the prefix, by their places.
    """

    tokens: list[int]
    weights: list[float]
    fixes: list[Any]
    vectors: dict[int, Tensor]


def chunk_of(tokens: Sequence[int], weights: Sequence[float], fixes: Sequence[Any]) -> list[Entry]:
    """The chunk that a row is."""
    held = {fix.offset + 1 + n: Held(fix, n) for fix in fixes for n in range(int(fix.embedding.vectors))}
    return [(held.get(place, token), weight) for place, (token, weight) in enumerate(zip(tokens, weights, strict=True))]


def with_their_vectors(chunk: Chunk, key: str) -> list[Entry]:
    """The chunk with vectors in the place of what stands for them.

    Args:
        key: of the text encoder that reads it.
    """
    return [((_vector(token, key) if isinstance(token, Held) else token), *others) for token, *others in chunk]


def _vector(held: Held, key: str) -> Tensor:
    """A vector `[d]`; where embeddings are for several encoders, the hosts name each of these."""
    vectors = held.fix.embedding.vec
    rows: Tensor = vectors[f"clip_{key}"] if isinstance(vectors, Mapping) else vectors
    return rows[held.index]


def embeddings_in(chunks: Sequence[Chunk]) -> list[Any]:
    """The user's own embeddings in chunks, the host's objects."""
    return [token.fix.embedding for chunk in chunks for token, *_ in chunk if isinstance(token, Held)]


def row_of(chunk: Chunk) -> Row:
    """The row that a chunk is.

    Raises:
        PrefixMismatchError: an embedding of the user's own would be torn apart.
    """
    row = Row([], [], [], {})
    for place, (token, weight) in enumerate(chunk):
        if isinstance(token, Tensor):
            row.vectors[place] = token
        elif isinstance(token, Held):
            if token.index == 0:
                row.fixes.append(token.fix._replace(offset=place - 1))
            if not row.fixes or place != row.fixes[-1].offset + 1 + token.index:
                raise PrefixMismatchError(
                    "An embedding in the prompt is too long to stand beside the prefix: leave it out, or use a smaller"
                    " prefix."
                )
        row.tokens.append(token if isinstance(token, int) else STAND_IN)
        row.weights.append(weight)
    return row
