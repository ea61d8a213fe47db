"""Without this module a prefix could not enter a prompt: it puts the vectors into every chunk of the host's tokens.

The host's token structure is `{encoder key: [chunk, ...]}`; a chunk is a list of `(token, weight)` or
`(token, weight, word id)`, a token is an int or an embedding of the user's own. Nothing else of the host is known here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from .errors import PrefixMismatchError

Entry = Sequence[Any]
Chunk = Sequence[Entry]
Tokens = Mapping[str, Sequence[Chunk]]

KEPT_WHOLE = 8
"""Token groups shorter than this are not torn between two chunks: the host's `SDTokenizer.max_word_length`."""

LEAST_ROOM = 5
"""User tokens that a chunk must still hold beside the prefix."""


@dataclass(frozen=True)
class ClipChunks:
    """Chunks of a CLIP-type encoder, all of one length: start token, payload, end token, padding."""

    start: int = 49406
    end: int = 49407
    pad: int = 49407


FAMILIES: Mapping[str, ClipChunks] = {"l": ClipChunks(), "g": ClipChunks(pad=0), "h": ClipChunks(pad=0)}
"""Where the prefix goes, by the host's encoder key: in CLIP-type chunks, right after the start token."""


def require_fit(vectors: Mapping[str, Tensor], widths: Mapping[str, int]) -> None:
    """Raises `PrefixMismatchError` unless the prefix serves every encoder of the checkpoint.

    Args:
        vectors: `{encoder key: [m, d]}`. Encoders that the checkpoint lacks do no harm.
        widths: width of the token embeddings of each of the checkpoint's encoders.
    """
    for key, width in widths.items():
        _placement(key)
        found = _vectors_for(key, vectors).shape[1]
        if found != width:
            raise PrefixMismatchError(
                f"The prefix is {found} wide for text encoder '{key}', the checkpoint's is {width} wide:"
                " choose a prefix learned on a checkpoint of this family, or learn one with Train Anonymization Prefix."
            )


def inject(tokens: Tokens, vectors: Mapping[str, Tensor], blank: Tokens | None = None) -> dict[str, list[list[Entry]]]:
    """New tokens, in which every chunk of every encoder carries the prefix right after its start token, with weight 1.

    What no longer fits moves on to a next chunk, in order and by the host's own rule for words; entries of the user
    (ints, embeddings, weights, word ids) are the very objects that came in. Prefix entries have word id 0, the host's
    for what is no word. The tokens put in are rows of the given tensors, so that gradients flow back to them.

    Args:
        tokens: what the host's tokenizer made of a prompt.
        vectors: `{encoder key: [m, d]}`, any dtype and device.
        blank: what the same tokenizer makes of the empty prompt; shows the checkpoint's own start, end and padding
            tokens. Without it they are the usual ones of each encoder.

    Raises:
        PrefixMismatchError: an encoder is unknown, or not in the prefix; the chunks are not laid out as expected; or
            the prefix leaves no room for a prompt.
    """
    _require_tokens(tokens)
    return {
        key: _inject_chunks(key, chunks, _vectors_for(key, vectors), _layout(key, blank))
        for key, chunks in tokens.items()
    }


def eject(tokens: Tokens, vectors: Mapping[str, Tensor], blank: Tokens | None = None) -> dict[str, list[list[Entry]]]:
    """The same chunks without their prefix, padded to the same length: what each chunk would say unprotected.

    The inverse of `inject` chunk by chunk: user tokens stay in the chunk they are in. A chunk that does not begin with
    the prefix is returned as it is. Arguments and errors as for `inject`.
    """
    _require_tokens(tokens)
    return {
        key: [_eject_chunk(chunk, _vectors_for(key, vectors), _layout(key, blank)) for chunk in chunks]
        for key, chunks in tokens.items()
    }


def carries(tokens: Tokens, vectors: Mapping[str, Tensor]) -> bool:
    """Whether every chunk of every encoder has the whole prefix somewhere in it. Raises as `inject` does."""
    _require_tokens(tokens)
    return all(_holds(chunk, _vectors_for(key, vectors)) for key, chunks in tokens.items() for chunk in chunks)


def _require_tokens(tokens: Tokens) -> None:
    if not isinstance(tokens, Mapping):
        raise PrefixMismatchError(
            "This CLIP's tokenizer does not name its text encoders, so the prefix cannot be placed:"
            " connect the CLIP of a supported checkpoint."
        )


def _placement(key: str) -> ClipChunks:
    if key not in FAMILIES:
        raise PrefixMismatchError(
            f"Anonymize Faces does not know text encoder '{key}' yet and will not guess where a prefix goes:"
            " use a checkpoint of a supported family, or update the extension."
        )
    return FAMILIES[key]


def _vectors_for(key: str, vectors: Mapping[str, Tensor]) -> Tensor:
    if key not in vectors:
        raise PrefixMismatchError(
            f"The prefix has no vectors for text encoder '{key}' (it has them for {', '.join(sorted(vectors))}):"
            " choose a prefix learned on a checkpoint of this family, or learn one with Train Anonymization Prefix."
        )
    return vectors[key]


def _layout(key: str, blank: Tokens | None) -> ClipChunks:
    usual = _placement(key)
    if blank is None:
        return usual
    if key not in blank or not blank[key] or len(blank[key][0]) < 3:
        raise _other_layout(key)
    marks = [entry[0] for entry in blank[key][0][:3]]
    if any(isinstance(mark, Tensor | Mapping) for mark in marks):
        raise _other_layout(key)
    return ClipChunks(*marks)


def _inject_chunks(key: str, chunks: Sequence[Chunk], vectors: Tensor, layout: ClipChunks) -> list[list[Entry]]:
    if not chunks:
        raise _other_layout(key)
    entries = [entry for chunk in chunks for entry in _payload(key, chunk, layout)]
    most = len(chunks[0]) - 2 - LEAST_ROOM
    if len(vectors) > most:
        raise PrefixMismatchError(
            f"A prefix of {len(vectors)} vectors leaves no room for a prompt in text encoder '{key}':"
            f" learn one of at most {most} vectors."
        )
    room = len(chunks[0]) - 2 - len(vectors)
    style = chunks[0][0]
    head = [chunks[0][0], *(_entry_like(style, row) for row in vectors.unbind(0))]
    end, pad = _entry_like(style, layout.end), _entry_like(style, layout.pad)
    payloads = list(_refill(_groups(entries), room))
    payloads += [[]] * (len(chunks) - len(payloads))
    return [[*head, *payload, end, *[pad] * (room - len(payload))] for payload in payloads]


def _eject_chunk(chunk: Chunk, vectors: Tensor, layout: ClipChunks) -> list[Entry]:
    count = len(vectors)
    if not all(_is_row(entry[0], row) for entry, row in zip(chunk[1 : count + 1], vectors, strict=False)):
        return list(chunk)
    return [chunk[0], *chunk[count + 1 :], *[_entry_like(chunk[0], layout.pad)] * count]


def _holds(chunk: Chunk, vectors: Tensor) -> bool:
    return any(
        all(_is_row(entry[0], row) for entry, row in zip(chunk[start:], vectors, strict=False))
        for start in range(len(chunk) - len(vectors) + 1)
    )


def _is_row(token: Any, row: Tensor) -> bool:
    return isinstance(token, Tensor) and token.shape == row.shape and torch.equal(token.to(row), row)


def _entry_like(style: Entry, token: Any) -> Entry:
    return type(style)((token, 1.0, 0)[: len(style)])


def _payload(key: str, chunk: Chunk, layout: ClipChunks) -> Chunk:
    """The user's entries of one chunk: what lies between the start token and the end token."""

    def is_structure(entry: Entry, token: int) -> bool:
        same = not isinstance(entry[0], Tensor | Mapping) and entry[0] == token
        return same and entry[1] == 1.0 and (len(entry) < 3 or entry[2] == 0)

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
