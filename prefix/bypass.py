"""Finds what would reach a picture past the prefix: vectors of the user's own, and words that are read elsewhere.

Vectors in a prompt (embeddings, textual inversions) can stand for a person as well as a name does. And some models read
the words of a prompt beside their text encoders, where no prefix can enter: Anima's denoiser looks the numbers of the
T5 tokens up in a table of its own, HunyuanImage's ByT5 reads what stands in quotation marks.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from torch import Tensor

from .errors import PrefixMismatchError
from .injection.encoder_layouts import ENCODER_LAYOUTS, Stream
from .injection.tokens import Tokens, place_of_rows

READ_ELSEWHERE = (
    "This model reads the words of a prompt by another way than its text encoders as well ('{}'), where no prefix can"
    " enter, so that a name may still be drawn as the person: use a checkpoint of another family"
)


class WatchedTokens(dict[str, Any]):
    """Tokens that know for which encoders they were read.

    Attributes:
        seen: keys whose chunks somebody has taken.
    """

    def __init__(self, tokens: Tokens) -> None:
        super().__init__(tokens)
        self.seen: set[str] = set()

    def __getitem__(self, key: str) -> Any:
        self.seen.add(key)
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        """As of a dict."""
        self.seen.add(key)
        return super().get(key, default)

    def pop(self, key: str, *default: Any) -> Any:
        """As of a dict."""
        self.seen.add(key)
        return super().pop(key, *default)

    def __iter__(self) -> Iterator[str]:
        return super().__iter__()  # That it is written here makes `dict(tokens)` go through `__getitem__`.

    def values(self) -> Any:
        """As of a dict; whoever takes all has read all."""
        self.seen.update(super().keys())
        return super().values()

    def items(self) -> Any:
        """As of a dict; whoever takes all has read all."""
        self.seen.update(super().keys())
        return super().items()

    def copy(self) -> dict[str, Any]:
        """As of a dict; whoever takes all has read all."""
        self.seen.update(super().keys())
        return dict(super().items())


def read_elsewhere(tokens: Tokens, stage: Any, encoders: Collection[str]) -> str | None:
    """The key of tokens that somebody other than the text encoders will read, as far as it can be told beforehand.

    Args:
        tokens: what the host's tokenizer makes of any prompt.
        stage: the host's object that holds the text encoders. It has a place for each that its family can have; where
            one is not loaded, its tokens are read by nobody.
        encoders: keys of those that it has.
    """
    for key in tokens:
        row = ENCODER_LAYOUTS.get(key)
        is_stream = row is None or isinstance(row, Stream)  # A refiner's tokenizer has words for CLIP-L as well.
        if key not in encoders and is_stream and not hasattr(stage, getattr(row, "attribute", key)):
            return key
    return None


def require_all_prefixed(tokens: WatchedTokens, stage: Any, prefixed: Collection[str]) -> None:
    """Raises `PrefixMismatchError` if tokens were read that carry no prefix.

    Args:
        tokens: after they were read.
        stage: as of `read_elsewhere`.
        prefixed: keys of those that carry the prefix. If not all of them were seen to be read, all there are count.
    """
    seen = tokens.seen if tokens.seen.issuperset(prefixed) else set(tokens)
    for key in sorted(seen - set(prefixed)):
        missing = object()
        if key in tokens and getattr(stage, getattr(ENCODER_LAYOUTS.get(key), "attribute", key), missing) is not None:
            raise PrefixMismatchError(READ_ELSEWHERE.format(key) + ", or leave out what stands in quotation marks.")


@dataclass(frozen=True)
class AllowedEmbeddings:
    """Which vectors of the user's own prompts may hold.

    Attributes:
        all: whether they may hold any.
        rows: digests of those that they may hold where they may not hold all, see `allowed`.
    """

    all: bool
    rows: frozenset[bytes] = frozenset()

    def allow(self, embedding: Tensor) -> bool:
        """Whether a prompt may hold all rows of this one, `[d]` or `[n, d]`."""
        return self.all or self.rows.issuperset(_digests(embedding))


NO_EMBEDDINGS, ANY_EMBEDDINGS = AllowedEmbeddings(all=False), AllowedEmbeddings(all=True)


def allowed(embeddings: Iterable[Tensor]) -> AllowedEmbeddings:
    """None but these, `[n, d]` each."""
    return AllowedEmbeddings(all=False, rows=frozenset(row for rows in embeddings for row in _digests(rows)))


def _digests(embedding: Tensor) -> list[bytes]:
    """One for each row; alike whatever type of number a host reads the same values as."""
    rows = embedding.detach().reshape(-1, embedding.shape[-1]).float().cpu().contiguous()
    return [sha256(row.numpy().tobytes()).digest() for row in rows]


def holds_other_vectors(
    tokens: Tokens, vectors: Mapping[str, Tensor], embeddings: AllowedEmbeddings = NO_EMBEDDINGS
) -> bool:
    """Whether vectors stand in the tokens that are none of the prefix's and not allowed.

    Args:
        tokens: of a prompt, with the prefix in every chunk that gets one.
        vectors: of the prefix, `{encoder key: [m, d]}`.
        embeddings: those that may stand there.
    """
    for key, chunks in tokens.items():
        rows = vectors.get(key)
        for chunk in chunks:
            start = None if rows is None else place_of_rows(chunk, rows)
            own = range(0) if rows is None or start is None else range(start, start + len(rows))
            others = (_vector_of(entry[0]) for place, entry in enumerate(chunk) if place not in own)
            if any(not _is_allowed(other, embeddings) for other in others if other is not None):
                return True
    return False


def _vector_of(token: Any) -> Any:
    """What a token stands for if that is a vector, else None: the host takes it in a mapping as well, like pictures."""
    if isinstance(token, Mapping):
        is_vector = token.get("type") == "embedding" and token.get("original_type") != "image"
        return token.get("data", token) if is_vector else None
    is_vector = not isinstance(token, int) and hasattr(token, "shape") and len(token.shape) > 0
    return token if is_vector else None


def _is_allowed(vector: Any, embeddings: AllowedEmbeddings) -> bool:
    return embeddings.all or (isinstance(vector, Tensor) and vector.ndim > 0 and embeddings.allow(vector))
