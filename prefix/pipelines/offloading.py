"""Tells where a module computes, and what its weights are, that a pipeline keeps elsewhere until they are needed.

accelerate's hooks leave weights without values in a module, and bring the real ones for as long as it works.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor


def device_of(module: torch.nn.Module) -> torch.device:
    """Where the module's inputs belong: where its weights lie, or where hooks will bring them to."""
    weight = next(module.parameters(), None)
    if weight is not None and weight.device.type != "meta":
        return weight.device
    for inner in module.modules():
        for hook in _hooks(inner):
            device = getattr(hook, "execution_device", None)
            if device is not None:
                return torch.device(device)
    return torch.device("cpu")


def weights_of(module: torch.nn.Module) -> dict[str, Tensor]:
    """`state_dict`, with the real weights where hooks keep them."""
    weights = dict(module.state_dict())
    if not any(weight.device.type == "meta" for weight in weights.values()):
        return weights
    for at, inner in module.named_modules():
        kept = next((hook.weights_map for hook in _hooks(inner) if getattr(hook, "weights_map", None)), None)
        for name, weight in inner.named_parameters(recurse=False):
            full = f"{at}.{name}" if at else name
            if kept is not None and weight.device.type == "meta" and full in weights:
                weights[full] = kept[name]
    return weights


def _hooks(module: Any) -> Iterator[Any]:
    """accelerate's hooks of a module, one by one."""
    hook = getattr(module, "_hf_hook", None)
    yield from getattr(hook, "hooks", () if hook is None else (hook,))
