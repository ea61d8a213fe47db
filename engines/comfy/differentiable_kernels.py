"""Has the host compute by kernels that gradients flow through, and gives it back its own afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import comfy.model_management
import comfy.ops
import torch

EXACT = "_full_precision_mm"
"""The host's name for layers that multiply their quantized weights in a wider format."""


@contextmanager
def differentiable_kernels(*networks: torch.nn.Module) -> Iterator[None]:
    """Inside, nothing is fused or multiplied in fp8 that has no gradient.

    Newer hosts run fused kernels unless they are told that something learns. Layers in fp8 multiply in fp8 where a card
    can: what goes in is made a tensor without a history, so that a gradient comes through what goes past them alone.
    Weights are what they were: only how they are multiplied changes.

    Args:
        networks: whose layers they are.
    """
    layers = [module for network in networks for module in network.modules() if hasattr(module, EXACT)]
    before = [getattr(layer, EXACT) for layer in layers]
    management: Any = comfy.model_management
    operations: Any = comfy.ops
    in_training = getattr(management, "in_training", None)
    fp8_linear = getattr(operations, "fp8_linear", None)
    for layer in layers:
        setattr(layer, EXACT, True)
    if fp8_linear is not None:
        operations.fp8_linear = lambda *_: None  # Then such a layer multiplies as all others do.
    if in_training is not None:
        management.in_training = True
    try:
        yield
    finally:
        if in_training is not None:
            management.in_training = in_training
        if fp8_linear is not None:
            operations.fp8_linear = fp8_linear
        for layer, was in zip(layers, before, strict=True):
            setattr(layer, EXACT, was)
