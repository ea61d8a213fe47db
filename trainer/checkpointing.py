"""Without this module a backward pass would hold every activation of the denoiser: blocks are computed twice instead.

While it is on, each block of the network has a `forward` of its own, an attribute of the instance that hides the
class's; afterwards it is gone, and nothing tells that it was ever there.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

CONTAINERS = (nn.ModuleList, nn.ModuleDict, nn.Sequential)


@contextmanager
def checkpointed(network: nn.Module) -> Iterator[None]:
    """Inside, the blocks of the network keep their inputs alone, and are computed anew in the backward pass."""
    patched = list(blocks_of(network))
    before = {block: vars(block).get("forward") for block in patched}
    for block in patched:
        block.forward = _twice(block.forward)
    try:
        yield
    finally:
        for block, forward in before.items():
            if forward is None:
                del block.forward
            else:
                block.forward = forward


def blocks_of(network: nn.Module, inside: bool = False) -> Iterator[nn.Module]:
    """The outermost modules in the network's lists and sequences that are made of several modules."""
    for child in network.children():
        if isinstance(child, CONTAINERS):
            yield from blocks_of(child, inside=True)
        elif inside and len(list(child.children())) > 1:
            yield child


def _twice(forward: Any) -> Any:
    def run(*args: Any, **kwargs: Any) -> Any:
        # Some blocks work on their inputs in place, and the host's options change from block to block: both times the
        # block gets copies of what it was called with.
        return forward(*map(_copied, args), **{name: _copied(value) for name, value in kwargs.items()})

    def checkpointing_forward(*args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*args, **kwargs)
        args = tuple(dict(value) if isinstance(value, dict) else value for value in args)
        kwargs = {name: dict(value) if isinstance(value, dict) else value for name, value in kwargs.items()}
        return checkpoint(run, *args, use_reentrant=False, preserve_rng_state=False, **kwargs)

    return checkpointing_forward


def _copied(value: Any) -> Any:
    if isinstance(value, Tensor) and value.is_floating_point():
        return value.clone()
    return dict(value) if isinstance(value, dict) else value
