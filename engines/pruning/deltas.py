"""Cuts a LoRA to what narrowed layers compute, and fits it to whole layers again."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .units import NarrowedLayer

_MATRIX = re.compile(r"[^.]+\.(?P<layer>.+)\.lora_(?:(?P<up>up|B)|down|A)\.weight")
"""What a matrix of a LoRA is called in files, by ComfyUI or by PEFT: the part of the model, the layer, which of two."""

NUMBERS = (torch.float32, torch.float16, torch.bfloat16)
"""Formats that LoRAs may have."""


def narrowed_delta(
    delta: Mapping[str, Tensor], layers: Sequence[NarrowedLayer], network: nn.Module
) -> dict[str, Tensor]:
    """A LoRA of a network without what it would add to what narrowed layers do not compute."""
    found = dict(delta)
    for name, dimension, numbers, count in _cut_matrices(delta, layers, network):
        by_channel = delta[name].view(*delta[name].shape[:dimension], count, -1)
        found[name] = _as_before(by_channel.index_select(dimension, numbers), delta[name])
    return found


def whole_delta(
    delta: Mapping[str, Tensor], layers: Sequence[NarrowedLayer], network: nn.Module, part: str
) -> dict[str, Tensor]:
    """`narrowed_delta` undone: zeros where it adds nothing.

    Args:
        part: what names of the network's layers begin with in files.

    Raises:
        ValueError: it does not fit the network, or these layers.
    """
    _require_fit(delta, layers, network, part)
    found = dict(delta)
    for name, dimension, numbers, count in _cut_matrices(delta, layers, network):
        matrix = delta[name]
        by_channel = matrix.view(*matrix.shape[:dimension], len(numbers), -1)
        shape = (*by_channel.shape[:dimension], count, by_channel.shape[-1])
        found[name] = _as_before(matrix.new_zeros(shape).index_copy(dimension, numbers, by_channel), matrix)
    return found


def _require_fit(delta: Mapping[str, Tensor], layers: Sequence[NarrowedLayer], network: nn.Module, part: str) -> None:
    """Raises `ValueError` unless a delta is a LoRA of layers of the network, as `narrowed_delta` has it."""
    cut = {about.name: about for about in layers}
    ranks: dict[str, dict[bool, int]] = {}
    for name, matrix in delta.items():
        match = _MATRIX.fullmatch(name)
        if match is None or not name.startswith(part) or matrix.ndim < 2 or matrix.dtype not in NUMBERS:
            raise ValueError(f"'{name[:100]}' is no matrix of a LoRA of this network")
        layer, is_up = match["layer"], bool(match["up"])
        try:
            weight: Any = network.get_submodule(layer).weight
        except AttributeError as error:
            raise ValueError(f"there is no layer '{layer[:100]}'") from error
        about = cut.get(layer)
        numbers = None if about is None else (about.rows if is_up else about.columns)
        channels = weight.shape[0 if is_up else 1] if numbers is None else len(numbers)
        each = 1 if is_up else weight[0, 0].numel()
        rank = matrix.shape[1 if is_up else 0]
        if matrix.numel() != channels * each * rank or matrix.shape[0 if is_up else 1] not in (
            channels,
            channels * each,
        ):
            raise ValueError(f"'{layer[:100]}' is of another size")
        if rank > min(len(weight), weight[0].numel()):
            raise ValueError(f"'{layer[:100]}' has a rank of {rank}")
        ranks.setdefault(layer, {})[is_up] = rank
    for layer, found in ranks.items():
        if len(found) != 2 or len(set(found.values())) != 1:
            raise ValueError(f"the matrices of '{layer[:100]}' are no pair")


def _cut_matrices(
    delta: Mapping[str, Tensor], layers: Sequence[NarrowedLayer], network: nn.Module
) -> Iterator[tuple[str, int, Tensor, int]]:
    """Names of the matrices of a LoRA that a narrowed layer needs a part of, the dimension of the layer's channels,
    which of these stay, and how many channels the layer has."""
    cut = {about.name: about for about in layers}
    for name, matrix in delta.items():
        match = _MATRIX.fullmatch(name)
        about = cut.get(match["layer"]) if match else None
        if match is None or about is None:
            continue
        dimension, numbers = (0, about.rows) if match["up"] else (1, about.columns)
        if numbers is not None:
            layer: Any = network.get_submodule(about.name)
            yield name, dimension, numbers.to(matrix.device), layer.weight.shape[dimension]


def _as_before(by_channel: Tensor, matrix: Tensor) -> Tensor:
    """A part of a matrix, or more of it, in as many dimensions: the host's LoRA of a convolution has its kernel among
    the numbers of the second one, PEFT's has it in two more."""
    return (
        by_channel.reshape(*by_channel.shape[:1], -1, *matrix.shape[2:]) if matrix.ndim > 2 else by_channel.flatten(1)
    )
