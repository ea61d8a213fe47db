"""Fine-tunes parts of a pipeline: copies of whole networks, or PEFT's LoRA on networks that share the weights."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from ...prefix.errors import TrainingError
from ...runs.seeds import derived_seed
from ...runs.weights import is_plain
from ..denoiser import FULL

ADAPTED = ("to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2", "conv1", "conv2")
"""Layers of a denoiser that LoRA is added to: attention, its projections, and the convolutions of the blocks."""

ADAPTED_TEXT = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2", "q", "k", "v", "o", "wi_0", "wi_1", "wo")
"""Layers of text encoders that LoRA is added to, of CLIP and T5."""


def learnable_copy(network: nn.Module, kind: str, rank: int, seed: int) -> tuple[nn.Module, dict[str, nn.Parameter]]:
    """A copy of a network, and its parameters that are learned, float32, by name; the network stays as it is.

    Args:
        kind: `FULL`: everything is copied, into float32; `LORA`: the weights are shared.
        rank: of the latter.
        seed: of what the weights start from.

    Raises:
        TrainingError: the weights are quantized or elsewhere, or PEFT is not installed.
    """
    if not all(is_plain(weight) for weight in network.parameters()):
        raise TrainingError(
            "This model's weights are quantized or offloaded, and cannot be fine-tuned: load it as a whole, in half"
            " precision or float32."
        )
    with torch.inference_mode(False):
        if kind == FULL:
            own = copy.deepcopy(network).float().requires_grad_(False)
            return own, dict(own.named_parameters())
        shared = {id(tensor): tensor for tensor in (*network.parameters(), *network.buffers())}
        own = copy.deepcopy(network, shared)
        return own, _with_lora(own, rank, seed)


def _with_lora(network: nn.Module, rank: int, seed: int) -> dict[str, nn.Parameter]:
    """Adds PEFT's LoRA, which changes nothing at first, to a network of one's own; the parameters of it."""
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise TrainingError(
            "LoRA on a pipeline of diffusers needs the package peft: install it (pip install peft), or fine-tune in"
            " full."
        ) from error
    targets = _targets(network)
    if not targets:
        raise TrainingError("LoRA knows no layer of this network: fine-tune it in full.")
    flags = {id(parameter): (parameter, parameter.requires_grad) for parameter in network.parameters()}
    # torch's own generator makes the first values; whoever uses it besides finds it as it was.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(seed, "fine-tuning"))
        inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=rank, target_modules=targets), network)
    for shared, flag in flags.values():
        shared.requires_grad_(flag)  # Of the weights that the other network has too.
    learned = {}
    for name, parameter in network.named_parameters():
        if "lora_" in name:
            parameter.requires_grad_(False).data = parameter.data.float()
            learned[name] = parameter
    return learned


def _targets(network: nn.Module) -> list[str]:
    endings: Sequence[str] = (*ADAPTED, *ADAPTED_TEXT)
    kinds: tuple[Any, ...] = (nn.Linear, nn.Conv2d)
    return [
        name
        for name, module in network.named_modules()
        if isinstance(module, kinds) and any(name == ending or name.endswith(f".{ending}") for ending in endings)
    ]
