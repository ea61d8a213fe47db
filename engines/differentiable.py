"""Runs the host's text encoders, which alter tensors to save memory, so that autograd can follow."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import is_traceable_wrapper_subclass


@contextmanager
def differentiable(module: torch.nn.Module, *, once: bool = False) -> Iterator[None]:
    """Inside, the module may add in place and write its results into tensors that it no longer needs.

    The host does both (docs/ARCHITECTURE.md, Host facts 2). What the forward pass saves for the backward one is copied,
    but for the weights, which nobody alters. `allow_mutation_on_saved_tensors` does the same, but would have to watch
    every operation of the whole step. Where no gradients are recorded, nothing is in the way.

    Args:
        once: what several operations save is copied once, unless it was written to in between. Torch must know of all
            that is written: not where weights are streamed through a buffer.
    """
    if not torch.is_grad_enabled():
        yield
        return
    weights = places_of(module.parameters())
    copies: WeakValueDictionary[Hashable, Tensor] = WeakValueDictionary()

    def pack(tensor: Tensor) -> Tensor | _Packed:
        if places_of([tensor]) <= weights:
            return tensor
        if not _is_compact(tensor):
            return tensor.clone()
        part = part_of(tensor) if once else None
        whole = None if part is None else copies.get(part)
        if whole is None:
            whole = tensor.as_strided((_span(tensor),), (1,)).clone()
            if part is not None:
                copies[part] = whole
        return _Packed(whole, tensor.shape, tensor.stride())

    def unpack(saved: Tensor | _Packed) -> Tensor:
        return saved.whole.as_strided(saved.shape, saved.stride) if isinstance(saved, _Packed) else saved

    with torch.autograd.graph.saved_tensors_hooks(pack, unpack), OutWritten():
        yield


class _Packed(NamedTuple):
    """A copy of the memory from a tensor's first element to its last, and how the tensor lies in it.

    On graphics cards torch's attention pads the rows of a mask, and its backward pass takes only rows so aligned; of a
    mask that is shared by all heads it keeps one. `clone` would pack the rows of the first and write out the second.
    """

    whole: Tensor
    shape: torch.Size
    stride: tuple[int, ...]


def part_of(tensor: Tensor) -> Hashable | None:
    """What part of memory a tensor is, and how often that was written to: what is equal holds the same numbers.

    None where that is not known, or where the tensor is scattered over the memory of others.
    """
    if tensor.is_inference() or not _is_compact(tensor):
        return None
    storage = StorageWeakRef(tensor.untyped_storage())  # While there is such a reference no other one is taken for it.
    return storage, tensor._version, tensor.storage_offset(), _span(tensor), tensor.dtype


def _is_compact(tensor: Tensor) -> bool:
    """Whether what lies between its first and its last element is mostly its own."""
    if tensor.numel() == 0 or is_traceable_wrapper_subclass(tensor):
        return False
    return _span(tensor) <= 2 * tensor.numel()


def _span(tensor: Tensor) -> int:
    """Elements from its first one to its last one in memory."""
    return 1 + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))


class OutWritten(TorchFunctionMode):
    """Writes results into `out=` tensors by an operation of its own: autograd refuses functions that do it themselves.

    Newer hosts' LLM encoders say `torch.add(residual, x, out=x)`.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if not kwargs:  # Most operations by far, in the innermost loops.
            return func(*args)
        out = kwargs.get("out")
        if not isinstance(out, Tensor) or not torch.is_grad_enabled():
            return func(*args, **kwargs)
        return out.copy_(func(*args, **{name: value for name, value in kwargs.items() if name != "out"}))


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
