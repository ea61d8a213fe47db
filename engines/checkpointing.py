"""Computes the blocks of a network twice, so that a backward pass need not hold all their activations at once.

While it is on, each block of the network has a `forward` of its own, an attribute of the instance that hides the
class's; afterwards it is gone, and nothing tells that it was ever there.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from .recomputation import recomputed

CONTAINERS = (nn.ModuleList, nn.ModuleDict, nn.Sequential)


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
    """Whether it is made of several modules; a T5's block keeps both of its layers in one list."""
    children = list(module.children())
    while len(children) == 1 and isinstance(children[0], CONTAINERS):
        children = list(children[0].children())
    return len(children) > 1


def _twice(block: nn.Module, forward: Any) -> Any:
    def checkpointing_forward(*args: Any, **kwargs: Any) -> Any:
        return recomputed(block, forward, *args, **kwargs)

    return checkpointing_forward
