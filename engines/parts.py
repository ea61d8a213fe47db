"""Has parts of a denoiser hand on what they are given, so that it computes less, or gates them.

A part is a module that returns something of the shape of its first argument: a block with a residual around it. While
the context managers here are open, it answers with that argument, and nothing of it is computed. Nothing stays behind:
between two calls the network is whole. `leave_out` alone is for good, or for what is noisy.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .denoiser import Denoiser

FORWARD = "forward"

COMFYUI, DIFFUSERS = "ComfyUI", "diffusers"
"""The engines, which have names of their own for the same blocks."""

DIFFUSERS_BLOCKS = ("down_blocks.", "mid_block.", "up_blocks.")
"""What names of blocks begin with in the UNets of diffusers, and in no network of ComfyUI's."""


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
    """

    denoiser: Denoiser
    network: nn.Module
    names: Mapping[str, str]
    fingerprint: str

    def parts(self) -> tuple[DenoiserPart, ...]:
        """The parts with their shares, counted in one prediction; inside `gradients` of the denoiser."""
        counts = self.counted()
        root = type(self.network).__name__
        whole = counts[root]
        return tuple(
            DenoiserPart(name, counts.get(f"{root}.{name}", 0) / max(1, whole), words)
            for name, words in self.names.items()
        )

    def counted(self) -> dict[str, int]:
        """Operations of one prediction by module, the network under the name of its class; inside `gradients`."""
        from torch.utils.flop_counter import FlopCounterMode  # Here, so that the host's start does not wait for it.

        with torch.no_grad(), FlopCounterMode(display=False) as counter:
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
    names: Sequence[str],
    above: float = EVERYWHERE,
    otherwise: Mapping[str, nn.Parameter] = MappingProxyType({}),
) -> None:
    """Has these modules hand on their first argument from now on, also in copies of the network.

    Args:
        above: where the network is told of later timesteps alone, as its second argument; it is whole at others.
        otherwise: weights that linear layers and convolutions, by name, have at others.

    Raises:
        AttributeError: the network has no such module.
    """
    modules = [network.get_submodule(name) for name in names]
    if above == EVERYWHERE:
        for module in modules:
            module.forward = handed_on
        return
    noise = _Noise(network, above)
    network.forward = noise
    for module in modules:
        module.forward = _LeftOutOfNoise(module, noise)
    for name, weight in otherwise.items():
        layer = network.get_submodule(name)
        layer.weight_otherwise = weight
        layer.forward = _OtherWeightThanOfNoise(layer, noise)


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
    """A layer's `forward`, which takes another weight where there is little noise. Copied and pickled with it."""

    def __init__(self, layer: Any, noise: _Noise) -> None:
        self._layer = layer
        self._noise = noise

    def __call__(self, given: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        layer = self._layer
        weight = layer.weight if self._noise.is_enough else layer.weight_otherwise
        if isinstance(layer, nn.Conv2d):
            convolved: Tensor = layer._conv_forward(given, weight, layer.bias)
            return convolved
        return F.linear(given, weight, layer.bias)


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
