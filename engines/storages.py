"""Tells where a tensor's numbers lie, also those of tensors that wrap others, as quantized weights do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor
from torch.utils._python_dispatch import is_traceable_wrapper_subclass


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
