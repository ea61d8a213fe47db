"""Places prefix vectors in prompts that an encoder reads as one stream.

What stands around the words, such as a start token or a chat template, depends on family, host version and caller. It
is read off the tokenizer itself: two stand-in prompts that differ from their first token on agree before it, in the
*head*, and after it, in the *tail*. If they come out equally long although one has more words, they are padded.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from torch import Tensor

from ..errors import PrefixMismatchError
from .tokens import Chunk, Entry, common_start, entry_like, is_structure, place_of_rows

STAND_INS = ("the", "b b b b b b b b")
"""Two prompts that share no token and differ in length: "the" is one token in every vocabulary."""


@dataclass(frozen=True)
class Surroundings:
    """What the host puts around a prompt of one stream.

    Attributes:
        head: entries before the user's.
        tail: number of entries after the user's, padding left out.
        pad: the padding token; None if prompts are not padded.
        after: number of entries after the padding.
        length: to which short prompts are padded; 0 if they are not.
        merges: whether white space that the prompt begins with may have become one token with the last of the head.
        loses: whether the head may have lost its last token: some hosts take away white space before `embedding:`.
    """

    head: Chunk
    tail: int
    pad: int | None = None
    after: int = 0
    length: int = 0
    merges: bool = False
    loses: bool = False

    def fit(self, chunk: Chunk) -> bool:
        """Whether a chunk begins with the head."""
        return self._place(chunk) is not None

    def place(self, key: str, chunk: Chunk) -> int:
        """Index of the first of the user's entries: the head's length, or one less if the head lost a token."""
        place = self._place(chunk)
        if place is None:
            raise unplaced(key)
        return place

    def _place(self, chunk: Chunk) -> int | None:
        agreed = common_start(chunk, self.head)
        if agreed == len(self.head):
            return agreed
        if agreed < len(self.head) - 1 or agreed == len(chunk):
            return None
        if self.loses:
            return agreed
        return agreed + 1 if self.merges else None

    def padding(self, chunk: Chunk) -> slice:
        """Where a chunk's padding stands."""
        stop = start = len(chunk) - self.after
        while self.pad is not None and start > 0 and is_structure(chunk[start - 1], self.pad):
            start -= 1
        return slice(start, stop)


def surroundings_of(one: Chunk, other: Chunk, text: str) -> Surroundings:
    """What two stand-ins for a prompt have in common."""
    padded = Surroundings((), 0)
    if len(one) == len(other):
        shared = common_start(one[::-1], other[::-1])
        pad = one[-1 - shared if shared < len(one) else -1][0]
        after = next(index for index, entry in enumerate(reversed(one)) if entry[0] == pad)
        padded = Surroundings((), 0, pad, after, len(one))
    one, other = _without_padding(one, padded), _without_padding(other, padded)
    head = common_start(one, other)
    tail = common_start(one[head:][::-1], other[head:][::-1])
    return dataclasses.replace(
        padded, head=one[:head], tail=tail, merges=text[:1].isspace(), loses=text.startswith("embedding:")
    )


def inject_stream(
    key: str, chunk: Chunk, vectors: Tensor, around: Surroundings, longest: int | None = None
) -> list[Entry]:
    """The chunk with the prefix before the user's entries; as many entries of padding give way, if there are any.

    A token that the head has lost comes back: hosts look for it when they cut the template off.
    """
    if not chunk:
        raise unplaced(key)
    place = around.place(key, chunk)
    rows = [entry_like(chunk[0], row) for row in vectors.unbind(0)]
    padding = around.padding(chunk)
    spare = padding.stop - max(padding.start, place) if len(chunk) <= around.length else 0
    stop = padding.stop - min(len(rows), spare)
    before = chunk[:place] if place >= len(around.head) else around.head
    injected = [*before, *rows, *chunk[place:stop], *chunk[padding.stop :]]
    if longest is not None and len(injected) > longest:
        raise PrefixMismatchError(
            f"The prompt is too long for text encoder '{key}', which reads {longest} tokens, {len(rows)} of them the"
            f" prefix: shorten it by {len(injected) - longest} tokens, or learn a smaller prefix."
        )
    return injected


def eject_stream(chunk: Chunk, vectors: Tensor, around: Surroundings) -> list[Entry]:
    """The chunk without the prefix, with the padding that gave way; as it is if it does not carry the prefix."""
    count = len(vectors)
    place = place_of_rows(chunk, vectors)
    if place is None:
        return list(chunk)
    bare = [*chunk[:place], *chunk[place + count :]]
    padding = around.padding(bare)
    missing = count if padding.stop > padding.start else max(0, around.length - len(bare))
    pads = [entry_like(chunk[0], around.pad)] * missing if around.pad is not None else []
    return [*bare[: padding.stop], *pads, *bare[padding.stop :]]


def words_of_stream(key: str, chunk: Chunk, around: Surroundings) -> Chunk:
    """The user's entries."""
    bare = _without_padding(chunk, around)
    return bare[around.place(key, chunk) : len(bare) - around.tail]


def unplaced(key: str) -> PrefixMismatchError:
    """The error for tokens in which the user's words cannot be told from what stands around them."""
    return PrefixMismatchError(
        f"Where the prompt begins cannot be found in the tokens for text encoder '{key}': if the prompt brings a chat"
        " template of its own, leave it out, else connect Anonymize Faces straight to the checkpoint's CLIP."
    )


def _without_padding(chunk: Chunk, around: Surroundings) -> list[Entry]:
    padding = around.padding(chunk)
    return [*chunk[: padding.start], *chunk[padding.stop :]]
