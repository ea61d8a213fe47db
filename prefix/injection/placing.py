"""Replaces rows of an embedding table's output by vectors, for encoders that take whole-number tokens.

It serves every host whose encoders take numbers of words: the pipelines of diffusers, Automatic1111 and Forge.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor

from ..errors import PrefixMismatchError

STAND_IN = 0
"""The word that is looked up where a vector stands, before the vector takes its place."""

Place = tuple[int, int, Tensor]
"""Row and column of a batch of tokens, and the vector `[d]` that stands there."""

_OPEN: ContextVar[frozenset[object]] = ContextVar("places_put_in", default=frozenset())
"""What was put in by whoever runs now: pipelines on several threads may share a table."""


@contextmanager
def put_in(table: torch.nn.Module, places: Sequence[Place]) -> Iterator[None]:
    """Inside, what the table of words looks up has these vectors in these places. Afterwards it is as before.

    What other threads and tasks look up meanwhile stays as it is. Differentiable in the vectors.

    Args:
        table: returns embeddings `[n, length, d]` for tokens `[n, length]`.

    Raises:
        PrefixMismatchError: inside, from the table, if a vector is of another width.
    """
    if not places:
        yield
        return
    mine = object()
    rows, columns, vectors = zip(*places, strict=True)

    def replace(module: Any, arguments: Any, output: Tensor) -> Tensor:
        if mine not in _OPEN.get():
            return output
        for vector in vectors:
            if vector.shape[-1] != output.shape[-1]:
                raise PrefixMismatchError(
                    f"This prefix is for another family of models (the text encoder takes vectors of"
                    f" {output.shape[-1]} numbers, the prefix's have {vector.shape[-1]}): choose a prefix learned on a"
                    " model of this family."
                )
        where = tuple(torch.tensor(indices, device=output.device) for indices in (rows, columns))
        return output.index_put(where, torch.stack([vector.to(output) for vector in vectors]))

    opened = _OPEN.set(_OPEN.get() | {mine})
    hook = table.register_forward_hook(replace)
    try:
        yield
    finally:
        hook.remove()
        _OPEN.reset(opened)
