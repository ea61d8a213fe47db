"""Checks what an embedding of somebody else's does behind a prefix: whether it undoes it, and whether it says a person.

Both are read off the text encoders alone, as docs/METHODS.md 2.10 has embeddings fitted: nothing is drawn.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ..engines.denoiser import Denoiser, TextStates, Vectors
from ..prefix import Prefix
from ..prefix.errors import PrefixMismatchError, TrainingError
from ..trainer.stages.text_distance import text_distance

OPENING = "a portrait of"
SOMEBODY = "a person"

SUSPECT = 0.5
"""An embedding that leaves less than this of what the prefix does, or that is nearer to a person than this, is told."""


@dataclass(frozen=True)
class EmbeddingCheck:
    """What an embedding does behind a prefix, each for the person of a list of whom it is worst.

    Attributes:
        held: how far that person's name is from being read as it is without a prefix, as a share of how far the prefix
            alone takes it: 1 if the embedding changes nothing, 0 if it undoes the prefix; it may be more than 1.
        undone_for: whose name.
        apart: how far "a portrait" with the embedding is from what that person's portrait is read as without a prefix,
            as a share of how far "a portrait of a person" is: 0 if the embedding says that person.
        says: whose.
    """

    held: float
    undone_for: str
    apart: float
    says: str

    @property
    def is_suspect(self) -> bool:
        """Whether it is to be looked at before anybody may use it."""
        return not (self.held >= SUSPECT and self.apart >= SUSPECT)


def check_embedding(denoiser: Denoiser, prefix: Prefix, embedding: Vectors, names: Sequence[str]) -> EmbeddingCheck:
    """What an embedding does behind a prefix to people of a list; see `EmbeddingCheck`.

    Args:
        denoiser: the unprotected model.
        embedding: vectors `{encoder key: [k, d]}` of every text encoder that the prefix has vectors for.
        names: at least one.

    Raises:
        PrefixMismatchError: the embedding lacks a text encoder, or is of another width.
        TrainingError: the list is empty, what these text encoders say of names cannot be told apart, or it is no
            number.
    """
    if not names:
        raise TrainingError("There is nobody on the list: name the people who must not be drawn, one a line.")
    for key, rows in prefix.vectors.items():
        if key not in embedding or embedding[key].shape[1] != rows.shape[1]:
            raise PrefixMismatchError(
                f"This embedding has no vectors of {rows.shape[1]} numbers for text encoder '{key}': it is of another"
                " kind of model, and does nothing on this one."
            )
    own = {key: embedding[key].detach().float() for key in prefix.vectors}
    count = len(next(iter(own.values())))
    held: dict[str, float] = {}
    apart: dict[str, float] = {}
    with denoiser.gradients(1), torch.no_grad():
        read = _Reader(denoiser, prefix, own, count)
        alone, somebody = read.with_both(OPENING), read.with_prefix(f"{OPENING} {SOMEBODY}")
        for name in names:
            prompt = f"{OPENING} {name}"
            plain = read.plain(prompt)
            unit = float(text_distance(read.with_prefix(prompt), plain))
            other = float(text_distance(somebody, plain))
            held[name] = float(text_distance(read.with_both(prompt), plain)) / (unit or 1.0)
            apart[name] = float(text_distance(alone, plain)) / (other or 1.0)
    if not all(map(math.isfinite, [*held.values(), *apart.values()])):
        raise TrainingError(
            "What the text encoders say with this embedding is not a finite number, so nothing can be told of it: do"
            " not use it, or check with --precision model."
        )
    undone_for, says = (min(found, key=found.__getitem__) for found in (held, apart))
    return EmbeddingCheck(held[undone_for], undone_for, apart[says], says)


class _Reader:
    """Has prompts read without a prefix, with it, and with it and an embedding of so many vectors behind it."""

    def __init__(self, denoiser: Denoiser, prefix: Prefix, embedding: Vectors, count: int) -> None:
        self._denoiser = denoiser
        self._prefix = prefix
        self._embedding = embedding
        self._count = count

    def plain(self, prompt: str) -> Sequence[TextStates]:
        return self._told(prompt, None, None, 0)

    def with_prefix(self, prompt: str) -> Sequence[TextStates]:
        return self._told(prompt, self._prefix.parameters, None, self._prefix.length)

    def with_both(self, prompt: str) -> Sequence[TextStates]:
        return self._told(prompt, self._prefix.parameters, self._embedding, self._prefix.length + self._count)

    def _told(
        self, prompt: str, parameters: Vectors | None, embedding: Vectors | None, before: int
    ) -> Sequence[TextStates]:
        said = self._denoiser.encode([prompt], parameters, embedding=embedding)
        (states,) = self._denoiser.text_states([prompt], said, before)
        if states is None:
            raise TrainingError(
                f"What these text encoders say of '{prompt}' cannot be told apart: shorten the name, or leave it out."
            )
        return states
