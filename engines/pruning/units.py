"""Narrows layers of a denoiser: units within blocks that nothing outside sees, and what is left without some.

Units are the heads of attention, the hidden numbers of feed-forward networks, and groups of the channels between the
two convolutions of a residual block. A block keeps its shape, and so does the network. While the context managers here
are open, units that go are multiplied by 0, or each by a gate of its own: that is what can be learned with. Layers that
compute fewer of them give the same and take less time; how they are put in place is each engine's own affair.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ALIGNED = 8
"""Numbers of a layer go so many at a time, or multiples of that: graphics cards multiply others more slowly."""

HEADS = "heads"
"""Attribute of an attention, in ComfyUI and in diffusers: how many heads it has."""


@dataclass(frozen=True)
class HiddenUnits:
    """The units of a block's layer.

    Attributes:
        name: of the module that holds them, within the network.
        into: names of the layers that give them.
        out: name of the layer that takes them.
        count: how many there are; each has as many numbers or channels.
        parts: how often they stand in what `into` gives: twice where half of it gates the other.
        together: how many go at a time.
        are_heads: whether units are heads; the module then says in `HEADS` how many there are.
    """

    name: str
    into: tuple[str, ...]
    out: str
    count: int
    parts: int = 1
    together: int = 1
    are_heads: bool = False

    def channels(self, kept: Tensor, of: int, parts: int = 1) -> Tensor:
        """Numbers of the channels, of so many, that belong to the units that a mask `[count]` keeps."""
        return torch.arange(of).view(parts, self.count, -1)[:, kept].flatten()


def heads(name: str, count: int) -> HiddenUnits:
    """The heads of an attention of that name, whose queries, keys and values are linear layers."""
    into = tuple(f"{name}.{layer}" for layer in ("to_q", "to_k", "to_v"))
    return HiddenUnits(name, into, f"{name}.to_out.0", count, are_heads=True)


def hidden_numbers(name: str, count: int) -> HiddenUnits:
    """The hidden numbers of a feed-forward network of that name, of which half of a layer gates the other (GEGLU)."""
    return HiddenUnits(
        name, (f"{name}.net.0.proj",), f"{name}.net.2", count, parts=2, together=math.gcd(count, ALIGNED)
    )


def channel_groups(name: str, into: Sequence[str], norm: str, out: str, network: nn.Module) -> HiddenUnits:
    """Groups of the channels between a residual block's convolutions, as its second normalization has them, or several
    of these at a time."""
    groups = network.get_submodule(f"{name}.{norm}")
    each = groups.num_channels // groups.num_groups
    several = math.gcd(groups.num_groups, ALIGNED // math.gcd(each, ALIGNED))
    layers = (*into, norm)
    return HiddenUnits(name, tuple(f"{name}.{one}" for one in layers), f"{name}.{out}", groups.num_groups // several)


@dataclass(frozen=True)
class LeftOut:
    """What a smaller denoiser does not compute.

    Attributes:
        blocks: names of blocks that are left out as a whole.
        kept: of layers that are narrowed the units that stay, a mask `[count]` by the name of the module that holds
            them.
    """

    blocks: tuple[str, ...] = ()
    kept: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Tells it from others."""
        if not self.kept:
            return "/".join(self.blocks)
        digest = hashlib.sha256()
        for name in sorted(self.kept):
            digest.update(name.encode() + bytes(self.kept[name].to(torch.uint8).tolist()))
        return "/".join((*self.blocks, digest.hexdigest()))

    def is_of(self, units: Mapping[str, HiddenUnits]) -> bool:
        """Whether a network with these units can be narrowed so."""
        return all(name in units and len(kept) == units[name].count for name, kept in self.kept.items())


@dataclass(frozen=True)
class NarrowedLayer:
    """A layer that computes some of its outputs of some of its inputs; weights must be on the device of the numbers.

    Attributes:
        name: of the layer.
        rows, columns: numbers of the outputs and of the inputs that stay; None: all.
        groups: of a normalization's channels that are left; of other layers 0.
    """

    name: str
    rows: Tensor | None
    columns: Tensor | None
    groups: int = 0

    def on(self, device: torch.device) -> NarrowedLayer:
        """The same, with its numbers on a device."""
        numbers = [one for one in (self.rows, self.columns) if one is not None]
        if all(one.device == device for one in numbers):
            return self
        rows, columns = (None if one is None else one.to(device) for one in (self.rows, self.columns))
        return dataclasses.replace(self, rows=rows, columns=columns)

    def weight(self, weight: Tensor) -> Tensor:
        """What stays of the layer's weight."""
        if self.rows is not None:
            weight = weight.index_select(0, self.rows)
        if self.columns is not None:
            weight = weight.index_select(1, self.columns)
        return weight

    def bias(self, bias: Tensor) -> Tensor:
        """What stays of the layer's bias."""
        return bias if self.rows is None else bias.index_select(0, self.rows)


def narrowed_layers(network: nn.Module, units: Mapping[str, HiddenUnits], left_out: LeftOut) -> list[NarrowedLayer]:
    """The layers that compute less, where something of a layer goes."""
    found = []
    for name, kept in left_out.kept.items():
        if bool(kept.all()):
            continue
        about = units[name]
        for inner in about.into:
            layer: Any = network.get_submodule(inner)
            count = layer.weight.shape[0]
            groups = int(kept.sum()) * layer.num_groups // about.count if isinstance(layer, nn.GroupNorm) else 0
            found.append(NarrowedLayer(inner, about.channels(kept, count, about.parts), None, groups))
        taken: Any = network.get_submodule(about.out)
        found.append(NarrowedLayer(about.out, None, about.channels(kept, taken.weight.shape[1])))
    return found


def computed(layer: Any, given: Tensor, weight: Tensor, bias: Tensor | None, groups: int) -> Tensor:
    """What a linear layer, a convolution or a normalization of groups gives with other weights."""
    if isinstance(layer, nn.GroupNorm):
        return F.group_norm(given, groups, weight, bias, layer.eps)
    if isinstance(layer, nn.Conv2d):
        convolved: Tensor = layer._conv_forward(given, weight, bias)
        return convolved
    return F.linear(given, weight, bias)


def narrowed_heads(units: Mapping[str, HiddenUnits], left_out: LeftOut) -> list[tuple[str, int]]:
    """Names of attentions, and how many heads each is to have."""
    return [(name, int(kept.sum())) for name, kept in left_out.kept.items() if units[name].are_heads]


@contextmanager
def gated_units(network: nn.Module, units: Mapping[str, HiddenUnits], gates: Mapping[str, Tensor]) -> Iterator[None]:
    """Inside, units are multiplied by their gates, `[count]` by the name of the module that holds them; differentiable.

    Raises:
        AttributeError: the network has no such layer.
    """
    with ExitStack() as hooks:
        for name, gate in gates.items():
            layer = network.get_submodule(units[name].out)
            hooks.callback(layer.register_forward_pre_hook(_gated(gate)).remove)
        yield


def _gated(gate: Tensor) -> Callable[..., tuple[Any, ...]]:
    """A hook that multiplies the channels of what a layer is given: the second dimension of pictures, the last of other
    inputs."""

    def multiply(layer: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
        values: Tensor = given[0]
        is_picture = values.ndim == 4
        channels = values.shape[1 if is_picture else -1]
        factor = gate.to(values).repeat_interleave(channels // len(gate))
        return values * (factor.view(-1, 1, 1) if is_picture else factor), *given[1:]

    return multiply
