"""Runs functions, and blocks of networks, now and again in the backward pass, so that what they compute in between is
not kept.

`torch.utils.checkpoint` does the same, but not for us: its reentrant form refuses `torch.autograd.grad`, and the other
one keeps views of tensors which ComfyUI's blocks alter in place, so that gradients come out wrong without an error
(Flux: by 2e-4 of their size). Here the function runs both times on copies of its inputs, and the second time inside
`differentiable`.

While `checkpointed` is open, each block of the network has a `forward` of its own, an attribute of the instance that
hides the class's; afterwards it is gone, and nothing tells that it was ever there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from .differentiable import differentiable

CONTAINERS = (nn.ModuleList, nn.ModuleDict, nn.Sequential)

_learned: list[tuple[Tensor, ...]] = []
"""What is learned just now beside inputs, of each `weights_learned` that is open."""


@contextmanager
def weights_learned(weights: Sequence[Tensor]) -> Iterator[None]:
    """Inside, these weights take gradients, also in functions that are `recomputed`; afterwards they do not.

    A function that is recomputed is one operation to autograd: what it uses beside its arguments has to be told.
    """
    for weight in weights:
        weight.requires_grad_(True)
    _learned.append(tuple(weights))
    try:
        yield
    finally:
        _learned.pop()
        for weight in weights:
            weight.requires_grad_(False)


def recomputed(module: nn.Module, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """What `function(*args, **kwargs)` returns, of which the backward pass keeps no more than the arguments.

    Args:
        module: the one whose weights the function uses; they must take no gradients, but for those of
            `weights_learned`.
        function: gives the same results for the same arguments.
        args, kwargs: lists, tables and tuples of anything; gradients flow to the tensors in them that require one, and
            to nothing else. The function may alter them in place: it gets copies.
    """
    leaves, shape = pytree.tree_flatten((args, kwargs))
    wanted = [index for index, leaf in enumerate(leaves) if isinstance(leaf, Tensor) and leaf.requires_grad]
    learned = [weight for weights in _learned for weight in weights]
    if not (wanted or learned) or not torch.is_grad_enabled():
        return function(*args, **kwargs)
    call = _Call(module, function, leaves, shape, wanted, learned)
    tensors = _Recomputed.apply(call, *(leaves[index] for index in wanted), *learned)
    return pytree.tree_unflatten(call.filled(tensors), call.output_shape)


class _Call:
    """A call that can be made again: the function, and its arguments without those that gradients flow to."""

    def __init__(
        self,
        module: nn.Module,
        function: Callable[..., Any],
        leaves: Sequence[Any],
        shape: Any,
        wanted: Sequence[int],
        learned: Sequence[Tensor],
    ) -> None:
        self.learned = tuple(learned)
        self._module = module
        self._function = function
        self._wanted = tuple(wanted)
        # The host's options are tables that change from block to block: flattened they are a copy.
        self._leaves = [None if index in self._wanted else leaf for index, leaf in enumerate(leaves)]
        self._shape = shape
        self._devices = {leaf.device.type for leaf in leaves if isinstance(leaf, Tensor)}
        self._number_formats = {
            device: (torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)) for device in self._devices
        }
        self.output_shape: Any = None
        self._others: list[Any] = []

    def __call__(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The floating-point tensors among the results for these inputs."""
        leaves = list(self._leaves)
        for index, tensor in zip(self._wanted, inputs, strict=True):
            leaves[index] = tensor
        leaves = [leaf.clone() if isinstance(leaf, Tensor) and leaf.is_floating_point() else leaf for leaf in leaves]
        args, kwargs = pytree.tree_unflatten(leaves, self._shape)
        results, self.output_shape = pytree.tree_flatten(self._function(*args, **kwargs))
        floating = [isinstance(result, Tensor) and result.is_floating_point() for result in results]
        self._others = [None if is_float else result for result, is_float in zip(results, floating, strict=True)]
        self._floating = floating
        return tuple(result for result, is_float in zip(results, floating, strict=True) if is_float)

    def again(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The same with gradients, in the number formats of the first time; for the backward pass."""
        with torch.inference_mode(False), torch.enable_grad(), differentiable(self._module), _Autocast(self):
            return self(inputs)

    def filled(self, tensors: Sequence[Tensor]) -> list[Any]:
        """All results, these tensors among them."""
        waiting = iter(tensors)
        return [
            next(waiting) if is_float else other for other, is_float in zip(self._others, self._floating, strict=True)
        ]

    @property
    def number_formats(self) -> dict[str, tuple[bool, torch.dtype]]:
        """Whether autocasting was on, and to what, by type of device."""
        return self._number_formats


class _Autocast:
    """Autocasting as it was when the call was made first."""

    def __init__(self, call: _Call) -> None:
        self._contexts = [
            torch.autocast(device, enabled=enabled, dtype=dtype)
            for device, (enabled, dtype) in call.number_formats.items()
            if enabled
        ]

    def __enter__(self) -> None:
        for context in self._contexts:
            context.__enter__()

    def __exit__(self, *error: Any) -> None:
        for context in reversed(self._contexts):
            context.__exit__(*error)


class _Recomputed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, call: _Call, *inputs: Tensor) -> tuple[Tensor, ...]:
        ctx.call = call
        given = inputs[: len(inputs) - len(call.learned)]
        ctx.save_for_backward(*given)
        with torch.no_grad():
            return call(given)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Any, ...]:
        with torch.inference_mode(False), torch.enable_grad():
            inputs = [tensor.detach().requires_grad_() for tensor in ctx.saved_tensors]
        outputs = ctx.call.again(inputs)
        pairs = [
            (output, gradient)
            for output, gradient in zip(outputs, gradients, strict=True)
            if output.requires_grad and gradient is not None
        ]
        wanted = [*inputs, *ctx.call.learned]
        if not pairs:
            return (None, *(None for _ in wanted))
        found = torch.autograd.grad(
            [output for output, _ in pairs], wanted, [gradient for _, gradient in pairs], allow_unused=True
        )
        return (None, *found)


@contextmanager
def checkpointed(network: nn.Module) -> Iterator[None]:
    """Inside, the blocks of the network keep their inputs alone, and are computed anew in the backward pass."""
    patched = list(blocks_of(network))
    before = {block: vars(block).get("forward") for block in patched}
    for block in patched:
        block.forward = _twice(block, block.forward)
    try:
        yield
    finally:
        for block, forward in before.items():
            if forward is None:
                del block.forward
            else:
                block.forward = forward


def blocks_of(network: nn.Module, inside: bool = False) -> Iterator[nn.Module]:
    """The outermost modules in lists and sequences, however deep in the network, that are made of several modules."""
    for child in network.children():
        if isinstance(child, CONTAINERS):
            yield from blocks_of(child, inside=True)
        elif inside and _is_block(child):
            yield child
        elif not inside:
            yield from blocks_of(child)


def _is_block(module: nn.Module) -> bool:
    """Whether it is made of several modules; a T5's block keeps both of its layers in one list, a compiled one is alone
    in what `torch.compile` made of it."""
    children = list(getattr(module, "_orig_mod", module).children())
    while len(children) == 1 and isinstance(children[0], CONTAINERS):
        children = list(children[0].children())
    return len(children) > 1


def _twice(block: nn.Module, forward: Any) -> Any:
    def checkpointing_forward(*args: Any, **kwargs: Any) -> Any:
        return recomputed(block, forward, *args, **kwargs)

    return checkpointing_forward
