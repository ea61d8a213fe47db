"""Watches which layer of a text model the web UI reads ("Clip skip"), and judges whether the prefix was learned at it.

The setting comes in many ways: options, override settings of a request, an infotext, Forge's own control; and some text
encoders read another layer whatever it says. So the text model hands out its states in a wrapper that takes down which
of them are taken.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ...prefix import Prefix, PrefixMismatchError, PrefixRecord
from ...prefix.layers import (
    LAST,
    Layer,
    allowed_layers,
    common_layers,
    gives_pooled_alone,
    layer_of,
    layers_by_training,
    listed,
    require_layers,
)
from .encoders import WebUiEncoder

_NAMES = ("last_hidden_state", "pooler_output", "hidden_states")
"""What a text model returns, in order, without what it leaves out."""


def require_read(prefix: Prefix, key: str, read: Sequence[Layer]) -> None:
    """Raises `PrefixMismatchError` unless a text encoder was read at layers that the prefix was learned at.

    Args:
        read: what `watched` found.
    """
    keys = prefix.vectors.keys()
    if gives_pooled_alone(key, keys):
        return
    if not read:
        raise PrefixMismatchError(
            f"Nobody can say at which layer text encoder '{key}' read the prompt, so it may not be protected: switch"
            " off the extension that reads prompts in its own way."
        )
    for layer in read:
        require_layers(prefix.record, {key: layer}, layers_by_training(keys), _remedy)


def clip_skips(record: PrefixRecord, keys: Collection[str]) -> list[int]:
    """What Clip skip may be set to for a prefix, in this host's numbers; empty if it makes no difference."""
    clips = {key: layer for key, layer in layers_by_training(keys).items() if key != "t5xxl"}
    judged = [key for key in clips if not gives_pooled_alone(key, keys)]
    return [-layer for layer in common_layers([allowed_layers(record, clips)[key] for key in judged])]


@contextmanager
def watched(encoder: WebUiEncoder) -> Iterator[list[Layer]]:
    """Inside, the layers that the host takes of an encoder's text model are found in the list."""
    read: list[Layer] = []
    if encoder.network is None:  # It returns one layer only, which no setting changes.
        read += encoder.fixed_layers
        yield read
        return
    count = encoder.network.config.num_hidden_layers

    def watch(module: Any, arguments: Any, output: Any) -> Any:
        return _Watched(output, count, encoder.key, read)

    hook = encoder.network.register_forward_hook(watch)
    try:
        yield read
    finally:
        hook.remove()


class _Watched:
    """What a text model of transformers returns, but it takes down whose states are taken."""

    def __init__(self, output: Any, count: int, key: str, read: list[Layer]) -> None:
        self._output, self._count, self._key, self._read = output, count, key, read

    @property
    def last_hidden_state(self) -> Any:
        """States after the last layer and its norm."""
        self._read.append(layer_of(LAST, self._count, self._key))
        return self._output.last_hidden_state

    @property
    def hidden_states(self) -> Any:
        """States after each layer, the embeddings first."""
        states = self._output.hidden_states
        return None if states is None else _States(states, self._count, self._key, self._read)

    def __getitem__(self, key: Any) -> Any:
        names = [name for name in _NAMES if getattr(self._output, name, None) is not None]
        return getattr(self, key if isinstance(key, str) else names[key])

    def __getattr__(self, name: str) -> Any:
        return getattr(self._output, name)


class _States(tuple):
    """States after each layer."""

    def __new__(cls, states: Sequence[Any], count: int, key: str, read: list[Layer]) -> _States:
        """The states, with where to take down which are taken."""
        made = super().__new__(cls, states)
        made._count, made._key, made._read = count, key, read
        return made

    def __getitem__(self, index: Any) -> Any:
        taken = super().__getitem__(index)
        self._read.append(layer_of(index, self._count, self._key) if isinstance(index, int) else f"layers {index}")
        return taken

    def __iter__(self) -> Iterator[Any]:
        self._read.append("all layers")
        return super().__iter__()


def _remedy(layers: Sequence[int]) -> str:
    if not layers:
        return "leave Clip skip as it is"
    return f"set Clip skip to {listed([str(-layer) for layer in layers], 'or')}"
