"""Counts what a backward pass needs kept, before anything is kept, and tells which text encoders weigh much."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from contextlib import ExitStack

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef

from .differentiable import OutWritten, part_of, places_of, storages_of

HEAVY_BYTES = 2**29
"""Of text encoders in float32. The host computes in it, whatever the weights are in, and each Linear keeps its copy for
the backward pass: 0.5 GiB for CLIP-L, 2.7 GiB for the two of SDXL, 17 GiB for T5-XXL."""

ROOM = 0.85
"""Share of a device's free memory that activations may take: its allocator leaves gaps."""


def has_room(
    count: Callable[[], int], pictures: int, free: Callable[[], int], out_of_memory: Callable[[Exception], bool]
) -> bool:
    """Whether a device has room for what the backward pass of so many pictures needs kept.

    Args:
        count: bytes that one picture needs; may run out of memory, as there is none then.
        free: bytes that are free once that was counted.
        out_of_memory: whether an error says that memory has run out; others come through.
    """
    try:
        each = count()
    except Exception as error:
        if not out_of_memory(error):
            raise
        return False
    return each * pictures <= ROOM * free()


def weighs_much(encoders: nn.Module) -> bool:
    """Whether text encoders are too large to keep a copy of their weights for each backward pass."""
    return 4 * sum(parameter.numel() for parameter in encoders.parameters()) > HEAVY_BYTES


class Counting:
    """Inside, what autograd saves for a backward pass is counted and thrown away; that pass cannot be run.

    Storages are counted once, and the weights of the network not at all. A storage that is gone meanwhile counts: the
    weak reference kept of it sees to it that no other one is taken for it.

    Args:
        copies: count the copies that `differentiable` would make `once`, instead of storages.

    Attributes:
        bytes: counted so far.
    """

    def __init__(self, network: nn.Module, copies: bool = False) -> None:
        self.bytes = 0
        self._weights = places_of(network.parameters())
        self._seen: set[Hashable] = set()
        self._copies = copies
        self._stack = ExitStack()

    def __enter__(self) -> Counting:
        self._stack.enter_context(torch.autograd.graph.saved_tensors_hooks(self._count, _no_backward))
        self._stack.enter_context(OutWritten())
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def _count(self, tensor: Tensor) -> None:
        if self._copies:
            if not places_of([tensor]) <= self._weights and (part := part_of(tensor)) not in self._seen:
                self._seen |= {part} - {None}
                self.bytes += tensor.nbytes
            return
        for storage in storages_of(tensor):
            reference = StorageWeakRef(storage)
            if storage.data_ptr() not in self._weights and reference not in self._seen:
                self._seen.add(reference)
                self.bytes += storage.nbytes()


def _no_backward(nothing: None) -> Tensor:
    raise RuntimeError("what this pass needs was counted, not kept")
