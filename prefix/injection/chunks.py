"""Places prefix vectors in the chunks of CLIP-type encoders, all of one length."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any

from torch import Tensor

from ..errors import PrefixMismatchError
from .encoder_layouts import ClipChunks
from .tokens import Chunk, Entry, entry_like, is_row, is_structure

KEPT_WHOLE = 8
"""Token groups shorter than this are not torn between two chunks: the host's `SDTokenizer.max_word_length`."""

LEAST_ROOM = 5
"""User tokens that a chunk must still hold beside the prefix."""


def layout_of(key: str, usual: ClipChunks, blank: Sequence[Chunk]) -> ClipChunks:
    """The layout with the checkpoint's own start, end and padding tokens, as its blank prompt shows them."""
    if not blank or len(blank[0]) < 3:
        raise _other_layout(key)
    start, end, pad = (entry[0] for entry in blank[0][:3])
    if not all(isinstance(mark, int) for mark in (start, end, pad)):
        raise _other_layout(key)
    return dataclasses.replace(usual, start=start, end=end, pad=pad)


def inject_chunks(key: str, chunks: Sequence[Chunk], vectors: Tensor, layout: ClipChunks) -> list[list[Entry]]:
    """Chunks that all carry the prefix; what no longer fits moves on, by the host's own rule for words."""
    if not chunks:
        raise _other_layout(key)
    entries = [entry for chunk in chunks for entry in words_of_chunk(key, chunk, layout)]
    most = len(chunks[0]) - 2 - LEAST_ROOM
    if len(vectors) > most:
        raise PrefixMismatchError(
            f"A prefix of {len(vectors)} vectors leaves no room for a prompt in text encoder '{key}':"
            f" learn one of at most {most} vectors."
        )
    room = len(chunks[0]) - 2 - len(vectors)
    style = chunks[0][0]
    head = [chunks[0][0], *(entry_like(style, row) for row in vectors.unbind(0))]
    end, pad = entry_like(style, layout.end), entry_like(style, layout.pad)
    payloads = list(_refill(_groups(entries), room))
    payloads += [[]] * (len(chunks) - len(payloads))
    return [[*head, *payload, end, *[pad] * (room - len(payload))] for payload in payloads]


def eject_chunk(chunk: Chunk, vectors: Tensor, layout: ClipChunks) -> list[Entry]:
    """The chunk without the prefix, padded to the same length; as it is if it does not begin with the prefix."""
    count = len(vectors)
    if not all(is_row(entry[0], row) for entry, row in zip(chunk[1 : count + 1], vectors, strict=False)):
        return list(chunk)
    return [chunk[0], *chunk[count + 1 :], *[entry_like(chunk[0], layout.pad)] * count]


class PlacedChunks(list[Chunk]):
    """Chunks that carry a prefix.

    Attributes:
        plain: those that the host made of the same words.
    """

    def __init__(self, chunks: Iterable[Chunk], plain: Sequence[Chunk]) -> None:
        super().__init__(chunks)
        self.plain = plain


def plain_chunks(
    key: str, chunks: Sequence[Chunk], of_host: Sequence[Chunk], layout: ClipChunks
) -> list[list[Entry]] | None:
    """Chunks of the words of others that carry no prefix, with as many in each as the host puts there.

    Args:
        of_host: those that the host once made. Weights may have changed since.

    Returns:
        None where the words are not those of the host's chunks: a node has joined others to them.
    """
    entries = [entry for chunk in chunks for entry in words_of_chunk(key, chunk, layout)]
    words = [words_of_chunk(key, chunk, layout) for chunk in of_host]
    once = [entry for chunk in words for entry in chunk]
    if not of_host or len(once) != len(entries) or not all(map(_say_the_same, once, entries)):
        return None
    left = iter(entries)
    return [_filled(chunks[0], [next(left) for _ in chunk], layout) for chunk in words]


def blank_chunk(like: Chunk, layout: ClipChunks) -> list[Entry]:
    """A chunk without words, as long as another."""
    return _filled(like, [], layout)


def _filled(like: Chunk, payload: Sequence[Entry], layout: ClipChunks) -> list[Entry]:
    end, pad = entry_like(like[0], layout.end), entry_like(like[0], layout.pad)
    return [like[0], *payload, end, *[pad] * (len(like) - 2 - len(payload))]


def _say_the_same(one: Entry, other: Entry) -> bool:
    return one[0] is other[0] or (isinstance(one[0], int) and isinstance(other[0], int) and one[0] == other[0])


def words_of_chunk(key: str, chunk: Chunk, layout: ClipChunks) -> Chunk:
    """The user's entries of one chunk: what lies between the start token and the end token."""
    stop = len(chunk)
    while stop > 1 and is_structure(chunk[stop - 1], layout.pad):
        stop -= 1
    if layout.pad != layout.end:
        stop -= 1
    framed = 1 <= stop < len(chunk) and is_structure(chunk[0], layout.start) and is_structure(chunk[stop], layout.end)
    if not framed:
        raise _other_layout(key)
    return chunk[1:stop]


def _other_layout(key: str) -> PrefixMismatchError:
    return PrefixMismatchError(
        f"The tokens for text encoder '{key}' are not laid out as CLIP's are (start, prompt, end, padding):"
        " connect Anonymize Faces straight to the checkpoint's CLIP."
    )


def _groups(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    """Runs of entries that the host made from one word or embedding; without word ids, as far as weights tell."""

    def group(entry: Entry) -> Any:
        return entry[2] if len(entry) > 2 else (entry[1], isinstance(entry[0], int))

    return (list(run) for _, run in groupby(entries, key=group))


def _refill(groups: Iterable[list[Entry]], room: int) -> Iterator[list[Entry]]:
    """Fills chunks of `room` entries in order; at least one, which may be empty."""
    filled: list[Entry] = []
    for group in groups:
        if len(group) < min(KEPT_WHOLE, room + 1) and len(filled) + len(group) > room:
            yield filled
            filled = []
        while len(filled) + len(group) > room:
            taken = room - len(filled)
            yield filled + group[:taken]
            filled, group = [], group[taken:]
        filled = filled + group
    yield filled
