"""Has blocks of a denoiser hand on what they are given, so that it computes less, or gates them.

A part is a module that returns something of the shape of its first argument: a block with a residual around it. While
the context managers here are open, it answers with that argument, and nothing of it is computed. Nothing stays behind:
between two calls the network is whole. `leave_out` alone is for good, or for what is noisy.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from ..denoiser import Denoiser
from .units import HEADS, HiddenUnits, LeftOut, NarrowedLayer, computed, gated_units, narrowed_heads, narrowed_layers

FORWARD = "forward"

COMFYUI, DIFFUSERS = "ComfyUI", "diffusers"
"""The engines, which have names of their own for the same blocks."""

DIFFUSERS_BLOCKS = ("down_blocks.", "mid_block.", "up_blocks.")
"""What names of blocks begin with in the UNets of diffusers, and in no network of ComfyUI's."""


CPU_ATTENTION = ("_scaled_dot_product_flash_attention_for_cpu",)
"""Names of torch's operators."""


def engine_of(names: Iterable[str]) -> str:
    """The engine whose blocks have these names."""
    return DIFFUSERS if any(name.startswith(DIFFUSERS_BLOCKS) for name in names) else COMFYUI


@dataclass(frozen=True)
class DenoiserPart:
    """A block that a denoiser can do without.

    Attributes:
        name: the module's, within the network.
        share: of the network's multiplications that it makes.
        words: what people call it.
    """

    name: str
    share: float
    words: str


@dataclass(frozen=True)
class Prunable:
    """A denoiser, and what can be taken out of it.

    Attributes:
        denoiser: its `gradients` must be open wherever parts are left out and `predict` is called.
        network: the module that holds the parts.
        names: of the parts, in the network's order, each with what people call it.
        fingerprint: `prefix.fingerprint` of the network's weights.
        units: that layers can be narrowed by, by the name of the module that holds them; none where nobody knows.
    """

    denoiser: Denoiser
    network: nn.Module
    names: Mapping[str, str]
    fingerprint: str
    units: Mapping[str, HiddenUnits] = field(default_factory=dict)

    def parts(self) -> tuple[DenoiserPart, ...]:
        """The parts with their shares, counted in one prediction; inside `gradients` of the denoiser."""
        counts = self.counted()
        root = type(self.network).__name__
        whole = counts[root]
        return tuple(
            DenoiserPart(name, counts.get(f"{root}.{name}", 0) / max(1, whole), words)
            for name, words in self.names.items()
        )

    def unit_shares(self) -> dict[str, float]:
        """Of the network's multiplications those that narrowing can save, by the name of the module that holds the
        units: what all of them together take; inside `gradients` of the denoiser."""
        counts = self.counted()
        root = type(self.network).__name__
        found = {}
        for name, units in self.units.items():
            # Attention itself is counted where it is called, and grows with heads as its layers do.
            counted = [name] if units.are_heads else [*units.into, units.out]
            found[name] = sum(counts.get(f"{root}.{one}", 0) for one in counted) / max(1, counts[root])
        return found

    @contextmanager
    def without(self, left_out: LeftOut) -> Iterator[None]:
        """Inside, the network computes without these blocks, and with units that go at 0: gradients pass.

        Raises:
            AttributeError: the network has no such blocks or layers.
        """
        with (
            without_parts(self.network, left_out.blocks),
            gated_units(self.network, self.units, left_out.kept),
        ):
            yield

    def counted(self) -> dict[str, int]:
        """Operations of one prediction by module, the network under the name of its class; inside `gradients`."""
        # Here, so that the host's start does not wait for it.
        from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

        def attention(query: Any, key: Any, value: Any, *args: Any, out_shape: Any = None, **kwargs: Any) -> int:
            return int(sdpa_flop_count(query, key, value))

        # torch itself counts no attention of the CPU's.
        kernels = [getattr(torch.ops.aten, name, None) for name in CPU_ATTENTION]
        counted = {kernel: attention for kernel in kernels if kernel is not None}
        with torch.no_grad(), FlopCounterMode(display=False, custom_mapping=counted) as counter:
            noised = torch.zeros(1, *self.denoiser.latent_shape)
            self.denoiser.predict(noised, torch.tensor([0.5]), self.denoiser.encode([""]))
        counts = {name: sum(by_kind.values()) for name, by_kind in counter.get_flop_counts().items()}
        counts.setdefault(type(self.network).__name__, counter.get_total_flops())
        return counts


@contextmanager
def without_parts(network: nn.Module, names: Sequence[str]) -> Iterator[None]:
    """Inside, these modules of a network hand on their first argument.

    Raises:
        AttributeError: the network has no such module.
    """
    with _answering({network.get_submodule(name): _without_own for name in names}):
        yield


EVERYWHERE = -math.inf
"""The timestep above which parts are left out, where they always are."""


def is_above(timestep: float, of_network: Tensor | float) -> bool:
    """Whether all that a network is told of time is above a timestep: what is to be left out there."""
    if timestep == EVERYWHERE:
        return True
    return bool((torch.as_tensor(of_network) > timestep).all())


def leave_out(
    network: nn.Module,
    left_out: LeftOut,
    above: float = EVERYWHERE,
    otherwise: Mapping[str, nn.Parameter] = MappingProxyType({}),
    units: Mapping[str, HiddenUnits] = MappingProxyType({}),
) -> None:
    """Has blocks hand on their first argument and layers compute less from now on, also in copies of the network.

    Layers get weights of their own; those that they shared with other networks stay as they are.

    Args:
        above: where the network is told of later timesteps alone, as its second argument; it is whole at others.
        otherwise: weights that linear layers and convolutions, by name, have at others.
        units: of the network.

    Raises:
        AttributeError: the network has no such module.
    """
    modules = [network.get_submodule(name) for name in left_out.blocks]
    narrowed = narrowed_layers(network, units, left_out)
    heads = [(network.get_submodule(name), count) for name, count in narrowed_heads(units, left_out)]
    if above == EVERYWHERE:
        for module in modules:
            module.forward = handed_on
        for about in narrowed:
            _narrow(network.get_submodule(about.name), about)
        for module, count in heads:
            setattr(module, HEADS, count)
        return
    noise = _Noise(network, above)
    network.forward = noise
    for module in modules:
        module.forward = _LeftOutOfNoise(module, noise)
    changed: dict[str, nn.Parameter] = dict(otherwise)
    for about in narrowed:
        changed.setdefault(about.name, network.get_submodule(about.name).weight)
    cut = {about.name: about for about in narrowed}
    for name, weight in changed.items():
        layer: Any = network.get_submodule(name)
        layer.weight_otherwise, layer.bias_otherwise = weight, layer.bias
        groups = getattr(layer, "num_groups", 0)
        if name in cut:
            _narrow(layer, cut[name])
        layer.forward = _OtherWeightThanOfNoise(layer, noise, groups)
    for module, count in heads:
        module.forward = _OtherHeadsThanOfNoise(module, noise, count)


def _narrow(layer: Any, about: NarrowedLayer) -> None:
    """Gives a layer what stays of its weights."""
    about = about.on(layer.weight.device)
    with torch.inference_mode(False), torch.no_grad():
        layer.weight = nn.Parameter(about.weight(layer.weight), requires_grad=False)
        if layer.bias is not None:
            layer.bias = nn.Parameter(about.bias(layer.bias), requires_grad=False)
    if about.groups:
        layer.num_groups, layer.num_channels = about.groups, len(layer.weight)


class _Noise:
    """A network's `forward`, which notes whether what it is given is noisy. Copied and pickled with the network."""

    def __init__(self, network: nn.Module, above: float) -> None:
        self._network = network
        self._above = above
        self.is_enough = False

    def __call__(self, noised: Any, timestep: Any, *args: Any, **kwargs: Any) -> Any:
        self.is_enough = is_above(self._above, timestep)
        return type(self._network).forward(self._network, noised, timestep, *args, **kwargs)


class _LeftOutOfNoise:
    """A part's `forward`, which hands on what is noisy. Copied and pickled with the part."""

    def __init__(self, module: nn.Module, noise: _Noise) -> None:
        self._module = module
        self._noise = noise

    def __call__(self, given: Any, *args: Any, **kwargs: Any) -> Any:
        if self._noise.is_enough:
            return handed_on(given, *args, **kwargs)
        return type(self._module).forward(self._module, given, *args, **kwargs)


@contextmanager
def gated_parts(network: nn.Module, gates: Mapping[str, Tensor]) -> Iterator[None]:
    """Inside, each of these modules gives `x + gate · (its own answer − x)`, differentiable in the gates."""

    def gated(gate: Tensor) -> Answer:
        def answer(own: Callable[..., Any], given: Any, *args: Any, **kwargs: Any) -> Any:
            made = own(given, *args, **kwargs)
            is_tuple = isinstance(made, tuple)
            blended = torch.lerp(given, made[0] if is_tuple else made, gate.to(given))
            return (blended, *made[1:]) if is_tuple else blended

        return answer

    with _answering({network.get_submodule(name): gated(gate) for name, gate in gates.items()}):
        yield


@contextmanager
def watched_parts(network: nn.Module, names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Inside, what these modules answer is put into the table, by name; the last call's."""
    seen: dict[str, Tensor] = {}

    def watching(name: str) -> Callable[..., None]:
        def watch(module: nn.Module, given: Any, answer: Any) -> None:
            seen[name] = answer[0] if isinstance(answer, tuple) else answer

        return watch

    handles = [network.get_submodule(name).register_forward_hook(watching(name)) for name in names]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


class _OtherWeightThanOfNoise:
    """A layer's `forward`, which takes other weights where there is little noise. Copied and pickled with it.

    Args:
        groups: of a normalization there.
    """

    def __init__(self, layer: Any, noise: _Noise, groups: int = 0) -> None:
        self._layer = layer
        self._noise = noise
        self._groups = groups

    def __call__(self, given: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        layer, is_enough = self._layer, self._noise.is_enough
        weight, bias = (layer.weight, layer.bias) if is_enough else (layer.weight_otherwise, layer.bias_otherwise)
        groups = getattr(layer, "num_groups", 0) if is_enough else self._groups
        return computed(layer, given, weight, bias, groups)


class _OtherHeadsThanOfNoise:
    """An attention's `forward`, which has fewer heads where there is noise. Copied and pickled with it."""

    def __init__(self, module: nn.Module, noise: _Noise, count: int) -> None:
        self._module = module
        self._noise = noise
        self._count = count

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        module, whole = self._module, getattr(self._module, HEADS)
        try:
            if self._noise.is_enough:
                setattr(module, HEADS, self._count)
            return type(module).forward(module, *args, **kwargs)
        finally:
            setattr(module, HEADS, whole)


Answer = Callable[..., Any]
"""Called with a module's own `forward` and with what the module is given."""


def handed_on(given: Any, *args: Any, **kwargs: Any) -> Any:
    """A copy of the first argument, since hosts add to what a block answers in place; a tuple of it where diffusers'
    blocks are asked for one."""
    handed = given.clone()
    return (handed,) if kwargs.get("return_dict", True) is False else handed


def _without_own(own: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return handed_on(*args, **kwargs)


@contextmanager
def _answering(answers: Mapping[nn.Module, Answer]) -> Iterator[None]:
    """Puts answers in the place of modules' `forward`, and takes them away again."""
    before: list[tuple[nn.Module, Any]] = []
    try:
        for module, answer in answers.items():
            before.append((module, vars(module).get(FORWARD)))
            module.forward = _in_place_of(module.forward, answer)
        yield
    finally:
        for module, own in reversed(before):
            if own is None:
                del module.forward
            else:
                module.forward = own


def _in_place_of(own: Callable[..., Any], answer: Answer) -> Callable[..., Any]:
    def forward(*args: Any, **kwargs: Any) -> Any:
        return answer(own, *args, **kwargs)

    return forward
