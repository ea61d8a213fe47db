"""Places prefix vectors in every chunk of the host's tokens."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from ..errors import PrefixMismatchError
from .batched_chunks import batched, inject_batched, is_batched, prompts_of
from .chunks import PlacedChunks, blank_chunk, eject_chunk, inject_chunks, layout_of, plain_chunks, words_of_chunk
from .encoder_layouts import CUT_AT_THE_LAST_TURN, ENCODER_LAYOUTS, ClipChunks, Stream, encoder_layout
from .looked_at import looked_at
from .stream import (
    STAND_INS,
    Surroundings,
    eject_stream,
    inject_stream,
    surroundings_of,
    unplaced,
    words_of_stream,
)
from .tokens import Chunk, Entry, Tokenize, Tokens, place_of_rows


@dataclass(frozen=True)
class Frame:
    """What the host's tokenizer puts around a prompt.

    Attributes:
        blank: what it makes of the empty prompt; shows a CLIP's own start, end and padding tokens. Without it they are
            the usual ones of each encoder.
        streams: what it puts around prompts of other encoders, by key.
    """

    blank: Tokens | None = None
    streams: Mapping[str, Surroundings] = field(default_factory=dict)


@looked_at("tokenizer")
def frame_of(tokenize: Tokenize, text: str) -> Frame:
    """What the host puts around this prompt: found by letting it tokenize stand-ins for the prompt.

    Raises:
        PrefixMismatchError: the tokenizer does not name its encoders, the place of a stream's words is not found, or
            the tokenizer raised something.
    """
    return _frame_around(tokenize(text), tokenize, text)


@looked_at("tokenizer")
def inject_text(
    tokenize: Tokenize,
    text: str,
    vectors: Mapping[str, Tensor] | None,
    encoders: Collection[str],
    embedding: Mapping[str, Tensor] | None = None,
) -> Tokens:
    """The tokens of a prompt with the prefix in them; see `frame_of` and `inject`.

    Args:
        embedding: other vectors `{encoder key: [k, d]}` that stand behind the prefix in every chunk, as though each
            began with an embedding of the user's own.
    """
    tokens = tokenize(text)
    frame = _frame_around(tokens, tokenize, text)
    placed = tokens
    for rows in (embedding, vectors):
        placed = placed if rows is None else inject(placed, rows, frame, encoders)
    if embedding is not None:
        return placed
    return {
        key: PlacedChunks(chunks, tokens[key]) if _is_cut(key, chunks) and chunks is not tokens[key] else chunks
        for key, chunks in placed.items()
    }


def require_fit(vectors: Mapping[str, Tensor], widths: Mapping[str, int]) -> None:
    """Raises `PrefixMismatchError` unless the prefix serves every encoder of the checkpoint.

    Args:
        vectors: `{encoder key: [m, d]}`. Encoders that the checkpoint lacks do no harm.
        widths: width of the token embeddings of each of the checkpoint's encoders.
    """
    for key, width in widths.items():
        if not encoder_layout(key).required and key not in vectors:
            continue
        found = _vectors_for(key, vectors).shape[1]
        if found != width:
            raise PrefixMismatchError(
                f"This prefix is for another family of checkpoints (text encoder '{key}' takes vectors of {width}"
                f" numbers, the prefix's have {found}): choose a prefix learned on a checkpoint of this family, or"
                " learn one with Train Anonymization Prefix."
            )


@looked_at("tokenizer")
def inject(
    tokens: Tokens,
    vectors: Mapping[str, Tensor],
    frame: Frame = Frame(),
    encoders: Collection[str] | None = None,
) -> dict[str, list[list[Entry]]]:
    """New tokens, in which every chunk of every encoder carries the prefix, with weight 1, before the user's words.

    In a CLIP's chunks it stands right after the start token, and what no longer fits moves on to a next chunk, in order
    and by the host's own rule for words. In a stream it stands where the user's text begins, and as many entries of
    padding give way, so that the length grows only as far as the words need it. Entries of the user (ints, embeddings,
    weights, word ids) are the very objects that came in. Prefix entries have word id 0, the host's for what is no word.
    The tokens put in are rows of the given tensors, so that gradients flow back to them.

    Args:
        tokens: what the host's tokenizer made of a prompt.
        vectors: `{encoder key: [m, d]}`, any dtype and device.
        frame: what the same tokenizer puts around that prompt. Only tokens of CLIPs can do without.
        encoders: keys of the encoders that the checkpoint has. Tokens for others, which nobody will read, stay as they
            are. None stands for all in `tokens`.

    Raises:
        PrefixMismatchError: an encoder is unknown, takes no vectors, is not in the prefix, or gets no tokens; the
            chunks are not laid out as expected; or the prefix leaves no room for a prompt.
    """
    _require_tokens(tokens)
    for key in encoders or ():
        if encoder_layout(key).required and key not in tokens:
            raise PrefixMismatchError(
                f"This CLIP's tokenizer has no words for its text encoder '{key}', so the prefix cannot be placed:"
                " connect the CLIP of a supported checkpoint."
            )
    injected = {}
    for key, chunks in tokens.items():
        if not _enters(key, vectors, encoders):
            injected[key] = [list(chunk) for chunk in chunks]
            continue
        row, rows = encoder_layout(key), _vectors_for(key, vectors)
        if isinstance(row, ClipChunks) and is_batched(chunks):
            injected[key] = inject_batched(key, chunks, rows, _layout(key, row, frame), row.pad)
        elif isinstance(row, ClipChunks):
            injected[key] = inject_chunks(key, chunks, rows, _layout(key, row, frame))
        else:
            around = _around(key, row, frame)
            longest = (around.length or None) if row.is_cut else row.longest
            injected[key] = [inject_stream(key, chunk, rows, around, longest) for chunk in chunks]
    return injected


@looked_at("tokenizer")
def eject(
    tokens: Tokens,
    vectors: Mapping[str, Tensor],
    frame: Frame = Frame(),
    encoders: Collection[str] | None = None,
) -> dict[str, list[list[Entry]]]:
    """The same chunks without their prefix: what each chunk would say unprotected.

    The inverse of `inject` chunk by chunk: user tokens stay in the chunk they are in, which is padded as it was. A
    chunk that does not carry the prefix is returned as it is. Arguments and errors as for `inject`.
    """
    _require_tokens(tokens)
    ejected = {}
    for key, chunks in tokens.items():
        if not _enters(key, vectors, encoders):
            ejected[key] = [list(chunk) for chunk in chunks]
            continue
        row, rows = encoder_layout(key), _vectors_for(key, vectors)
        if isinstance(row, ClipChunks):
            layout = _layout(key, row, frame)
            if is_batched(chunks):
                prompts = prompts_of(chunks)
                ejected[key] = batched([[eject_chunk(part, rows, layout) for part in prompt] for prompt in prompts])
                continue
            ejected[key] = [eject_chunk(chunk, rows, layout) for chunk in chunks]
        else:
            around = _around(key, row, frame)
            ejected[key] = [eject_stream(chunk, rows, around) for chunk in chunks]
    return ejected


@looked_at("tokenizer")
def restore(
    tokens: Tokens,
    vectors: Mapping[str, Tensor],
    frame: Frame = Frame(),
    encoders: Collection[str] | None = None,
) -> dict[str, list[list[Entry]]]:
    """The tokens of the same words without a prefix as the host makes them: in its own chunks.

    Known of what `inject_text` gave, as long as no other words were joined to it. Of anything else the chunks are those
    of `eject`. Arguments and errors as for `inject`.
    """
    restored: dict[str, list[list[Entry]]] = eject(tokens, vectors, frame, encoders)
    cut = {
        key: _layout(key, row, frame)
        for key, chunks in tokens.items()
        if _enters(key, vectors, encoders)
        and _is_cut(key, chunks)
        and isinstance(row := encoder_layout(key), ClipChunks)
    }
    for key, layout in cut.items():
        of_host = getattr(tokens[key], "plain", ())
        with suppress(PrefixMismatchError):  # What is no longer laid out as the host's is read as it came.
            restored[key] = plain_chunks(key, restored[key], of_host, layout) or restored[key]
    # Where hosts read several encoders side by side, they have as many chunks of each.
    most = max((len(restored[key]) for key in cut), default=0)
    if len({len(tokens[key]) for key in cut}) == 1:
        for key, layout in cut.items():
            restored[key] += [blank_chunk(restored[key][0], layout) for _ in range(most - len(restored[key]))]
    return restored


@looked_at("tokenizer")
def carries(tokens: Tokens, vectors: Mapping[str, Tensor], encoders: Collection[str] | None = None) -> bool:
    """Whether every chunk that `inject` would put the prefix into has all of it, wherever it stands.

    Arguments and errors as for `inject`.
    """
    _require_tokens(tokens)
    return all(
        place_of_rows(chunk, _vectors_for(key, vectors)) is not None
        for key, chunks in tokens.items()
        if _enters(key, vectors, encoders)
        for prompt in (prompts_of(chunks) if is_batched(chunks) else (chunks,))
        for chunk in prompt
    )


def without_word_ids(tokens: Tokens) -> Tokens:
    """The same tokens with entries `(token, weight)`."""
    found: dict[str, Sequence[Chunk]] = {}
    for key, chunks in tokens.items():
        if is_batched(chunks):
            found[key] = list(chunks)
            continue
        pairs = [[entry[:2] for entry in chunk] for chunk in chunks]
        found[key] = PlacedChunks(pairs, chunks.plain) if isinstance(chunks, PlacedChunks) else pairs
    return found


@looked_at("tokenizer")
def words(key: str, tokens: Tokens, frame: Frame) -> list[Entry]:
    """The user's own entries in the tokens of one encoder, without what the host put around them."""
    row = encoder_layout(key)
    if isinstance(row, ClipChunks):
        layout = _layout(key, row, frame)
        return [entry for chunk in tokens[key] for entry in words_of_chunk(key, chunk, layout)]
    return [entry for chunk in tokens[key] for entry in words_of_stream(key, chunk, _around(key, row, frame))]


def _frame_around(tokens: Tokens, tokenize: Tokenize, text: str) -> Frame:
    _require_tokens(tokens)
    keys = [key for key, row in ENCODER_LAYOUTS.items() if key in tokens and isinstance(row, Stream) and row.required]
    if not isinstance(text, str):  # Some tokenizers of other extensions take lists of prompts.
        if keys:
            raise unplaced(keys[0])
        return Frame(tokenize([""]))
    for key, turn in CUT_AT_THE_LAST_TURN.items():
        if key in keys and turn in text:
            raise unplaced(key)
    streams: dict[str, Surroundings] = {}
    for one, other in _stand_ins(text):
        missing = [key for key in keys if key not in streams]
        if not missing:
            break
        ones, others = tokenize(one), tokenize(other)
        for key in missing:
            around = surroundings_of(ones[key][0], others[key][0], text)
            if all(around.fit(chunk) for chunk in tokens[key]):
                streams[key] = around
    for key in keys:
        if key not in streams:
            raise unplaced(key)
    return Frame(tokenize(""), streams)


def _stand_ins(text: str) -> Iterator[tuple[str, str]]:
    """Pairs of prompts that the host may treat as it treats this one, but for their words; the likeliest first.

    There are none for prompts that bring a chat template of their own: the host keeps words of theirs that would stand
    before the prefix.
    """
    yield STAND_INS
    if not text.strip():
        yield "", " "


def _require_tokens(tokens: Any) -> None:
    if not isinstance(tokens, Mapping):
        raise PrefixMismatchError(
            "This CLIP's tokenizer does not name its text encoders, so the prefix cannot be placed:"
            " connect the CLIP of a supported checkpoint."
        )


def _enters(key: str, vectors: Mapping[str, Tensor], encoders: Collection[str] | None) -> bool:
    """Whether the prefix is to enter this encoder's tokens."""
    if encoders is not None and key not in encoders:
        return False
    return encoder_layout(key).required or key in vectors


def _vectors_for(key: str, vectors: Mapping[str, Tensor]) -> Tensor:
    if key not in vectors:
        raise PrefixMismatchError(
            f"The prefix has no vectors for text encoder '{key}' (it has them for {', '.join(sorted(vectors))}):"
            " choose a prefix learned on a checkpoint of this family, or learn one with Train Anonymization Prefix."
        )
    return vectors[key]


def _is_cut(key: str, chunks: Sequence[Chunk]) -> bool:
    """Whether these are chunks of one prompt, of one length each."""
    return isinstance(encoder_layout(key), ClipChunks) and bool(chunks) and not is_batched(chunks)


def _layout(key: str, usual: ClipChunks, frame: Frame) -> ClipChunks:
    if frame.blank is None:
        return usual
    blank = frame.blank.get(key, ())
    return layout_of(key, usual, prompts_of(blank)[0] if is_batched(blank) else blank)


def _around(key: str, row: Stream, frame: Frame) -> Surroundings:
    if key in frame.streams:
        return frame.streams[key]
    if row.required:
        raise unplaced(key)
    return Surroundings((), 0)  # It sees parts of some prompts only, with nothing before them.
