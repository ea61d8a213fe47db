"""Tells where a module computes and what its weights are, also where they lie elsewhere or are kept in another form.

Offloading (accelerate's hooks) leaves weights without values in a module, and brings the real ones for as long as it
works. Quantized weights (ComfyUI-GGUF) are bytes in a tensor of a class of their own, and `state_dict` shows stand-ins.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ..prefix.errors import PrefixMismatchError

BYTES_SAMPLED = 64
"""How many bytes of a quantized weight stand for it."""


def device_of(module: torch.nn.Module) -> torch.device:
    """Where the module's inputs belong: where its weights lie, or where hooks will bring them to."""
    weight = next(module.parameters(), None)
    if weight is not None and not weight.is_meta:
        return weight.device
    for inner in module.modules():
        for hook in _hooks(inner):
            device = getattr(hook, "execution_device", None)
            if device is not None:
                return torch.device(device)
    return torch.device("cpu")


def is_plain(weight: Any) -> bool:
    """Whether a weight is numbers that can be read as they are."""
    return type(weight) in (Tensor, torch.nn.Parameter) and weight.is_floating_point() and not weight.is_meta


def weights_of(module: torch.nn.Module) -> dict[str, Tensor]:
    """`state_dict`, with the real weights in place of stand-ins; for `fingerprint`.

    A quantized weight is told by some of its bytes, as floating-point numbers.

    Raises:
        PrefixMismatchError: a weight has no values anywhere.
    """
    weights = dict(module.state_dict())
    if not any(weight.is_meta for weight in weights.values()):
        return weights
    real = dict(_real_weights(module))
    if any(weight.is_meta for name, weight in real.items() if name in weights):
        raise PrefixMismatchError(
            "This model's weights have no values that could be read: load it anew, with the loader of the host."
        )
    # What only `state_dict` knows of is no weight: extensions reckon memory by it.
    return {name: real.get(name, weight) for name, weight in weights.items() if name in real or not weight.is_meta}


def _real_weights(module: torch.nn.Module) -> Iterator[tuple[str, Tensor]]:
    for at, inner in module.named_modules(remove_duplicate=False):
        kept = next((hook.weights_map for hook in _hooks(inner) if getattr(hook, "weights_map", None)), None)
        own = {**inner._parameters, **inner._buffers}
        for name, weight in own.items():
            found = kept.get(name, weight) if weight is not None and weight.is_meta and kept is not None else weight
            if found is not None:
                yield f"{at}.{name}" if at else name, _numbers(found)


def _numbers(weight: Tensor) -> Tensor:
    if weight.is_meta:
        return weight
    raw = torch.Tensor.as_subclass(weight.data, torch.Tensor)
    if raw.is_floating_point() or type(weight) in (Tensor, torch.nn.Parameter):
        return raw
    flat = raw.reshape(-1)
    count = min(BYTES_SAMPLED, flat.numel())
    # Every so many bytes would be the same byte of every block: its scale.
    places = torch.arange(count) * (flat.numel() - 1) // max(1, count - 1)
    return flat[places.to(flat.device)].float()


def _hooks(module: Any) -> Iterator[Any]:
    """accelerate's hooks of a module, one by one."""
    hook = getattr(module, "_hf_hook", None)
    yield from getattr(hook, "hooks", () if hook is None else (hook,))
