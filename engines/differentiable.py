"""Runs the host's text encoders, which alter tensors to save memory, so that autograd can follow."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import is_traceable_wrapper_subclass


@contextmanager
def differentiable(module: torch.nn.Module) -> Iterator[None]:
    """Inside, the module may add in place and write its results into tensors that it no longer needs.

    The host does both (docs/ARCHITECTURE.md, Host facts 2). What the forward pass saves for the backward one is copied,
    but for the weights, which nobody alters. `allow_mutation_on_saved_tensors` does the same, but would have to watch
    every operation of the whole step. Where no gradients are recorded, nothing is in the way.
    """
    if not torch.is_grad_enabled():
        yield
        return
    weights = places_of(module.parameters())

    def pack(tensor: Tensor) -> Tensor:
        return tensor if places_of([tensor]) <= weights else _copy_of(tensor)

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda saved: saved), OutWritten():
        yield


def _copy_of(tensor: Tensor) -> Tensor:
    """A copy laid out in memory as the tensor is.

    On graphics cards torch's attention pads the rows of a mask, and its backward pass takes only rows so aligned; of a
    mask that is shared by all heads it keeps one. `clone` would pack the rows of the first and write out the second.
    """
    span = 1 + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    if tensor.numel() == 0 or span > 2 * tensor.numel():
        return tensor.clone()
    return tensor.as_strided((span,), (1,)).clone().as_strided(tensor.shape, tensor.stride())


class OutWritten(TorchFunctionMode):
    """Writes results into `out=` tensors by an operation of its own: autograd refuses functions that do it themselves.

    Newer hosts' LLM encoders say `torch.add(residual, x, out=x)`.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        out = kwargs.get("out")
        if not isinstance(out, Tensor) or not torch.is_grad_enabled():
            return func(*args, **kwargs)
        del kwargs["out"]
        return out.copy_(func(*args, **kwargs))


def storages_of(tensor: Tensor) -> Iterator[torch.UntypedStorage]:
    """Its storage, or those of the tensors in it: a tensor that wraps others has none of its own."""
    if is_traceable_wrapper_subclass(tensor):
        for name in tensor.__tensor_flatten__()[0]:
            yield from storages_of(getattr(tensor, name))
    else:
        yield tensor.untyped_storage()


def places_of(tensors: Iterable[Tensor]) -> set[int]:
    """The addresses of their storages."""
    return {storage.data_ptr() for tensor in tensors for storage in storages_of(tensor)}
