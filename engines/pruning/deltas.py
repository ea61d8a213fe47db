"""Cuts a LoRA to what narrowed layers compute, and fits it to whole layers again."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from .units import NarrowedLayer

_MATRIX = re.compile(r"[^.]+\.(?P<layer>.+)\.lora_(?:(?P<up>up|B)|down|A)\.weight")
"""What a matrix of a LoRA is called in files, by ComfyUI or by PEFT: the part of the model, the layer, which of two."""


def narrowed_delta(
    delta: Mapping[str, Tensor], layers: Sequence[NarrowedLayer], network: nn.Module
) -> dict[str, Tensor]:
    """A LoRA of a network without what it would add to what narrowed layers do not compute."""
    found = dict(delta)
    for name, dimension, numbers, count in _cut_matrices(delta, layers, network):
        by_channel = delta[name].view(*delta[name].shape[:dimension], count, -1)
        found[name] = _as_before(by_channel.index_select(dimension, numbers), delta[name])
    return found


def whole_delta(delta: Mapping[str, Tensor], layers: Sequence[NarrowedLayer], network: nn.Module) -> dict[str, Tensor]:
    """`narrowed_delta` undone: zeros where it adds nothing.

    Raises:
        ValueError: it does not fit these layers.
    """
    found = dict(delta)
    for name, dimension, numbers, count in _cut_matrices(delta, layers, network):
        matrix = delta[name]
        try:
            by_channel = matrix.view(*matrix.shape[:dimension], len(numbers), -1)
        except RuntimeError as error:
            raise ValueError(f"'{name}' is of another size than the layer that is narrowed") from error
        shape = (*by_channel.shape[:dimension], count, by_channel.shape[-1])
        found[name] = _as_before(matrix.new_zeros(shape).index_copy(dimension, numbers, by_channel), matrix)
    return found


def _cut_matrices(
    delta: Mapping[str, Tensor], layers: Sequence[NarrowedLayer], network: nn.Module
) -> Iterator[tuple[str, int, Tensor, int]]:
    """Names of the matrices of a LoRA that a narrowed layer needs a part of, the dimension of the layer's channels,
    which of these stay, and how many channels the layer has.

    Raises:
        ValueError: a matrix has no such dimension.
    """
    cut = {about.name: about for about in layers}
    for name, matrix in delta.items():
        match = _MATRIX.fullmatch(name)
        about = cut.get(match["layer"]) if match else None
        if match is None or about is None:
            continue
        dimension, numbers = (0, about.rows) if match["up"] else (1, about.columns)
        if numbers is not None:
            if matrix.ndim < 2:
                raise ValueError(f"'{name}' is no matrix")
            layer: Any = network.get_submodule(about.name)
            yield name, dimension, numbers.to(matrix.device), layer.weight.shape[dimension]


def _as_before(by_channel: Tensor, matrix: Tensor) -> Tensor:
    """A part of a matrix, or more of it, in as many dimensions: the host's LoRA of a convolution has its kernel among
    the numbers of the second one, PEFT's has it in two more."""
    return (
        by_channel.reshape(*by_channel.shape[:1], -1, *matrix.shape[2:]) if matrix.ndim > 2 else by_channel.flatten(1)
    )
