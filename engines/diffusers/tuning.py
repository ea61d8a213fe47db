"""Fine-tunes parts of a pipeline: copies of whole networks, or PEFT's LoRA on networks that share the weights."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ...prefix.errors import TrainingError
from ...runs.seeds import cpu_seeded, derived_seed
from ...runs.weights import is_plain
from ..denoiser import FULL

ADAPTED = ("to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2", "conv1", "conv2")
"""Layers of a denoiser that LoRA is added to: attention, its projections, and the convolutions of the blocks."""

ADAPTED_TEXT = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2", "q", "k", "v", "o", "wi_0", "wi_1", "wo")
"""Layers of text encoders that LoRA is added to, of CLIP and T5."""

MATRICES = (".lora_A.weight", ".lora_B.weight")
"""What names of a layer's two matrices end with in files, the one that comes first in front."""

BASE = "base_layer"
"""Attribute of PEFT's layers: the layer that it adapts."""

NAME_OF_ADAPTER = re.compile(r"(?<=\.lora_[AB])\.\w+\.weight$")
"""What PEFT puts between, where a network is adapted."""


def learnable_copy(network: nn.Module, kind: str, rank: int, seed: int) -> tuple[nn.Module, dict[str, nn.Parameter]]:
    """A copy of a network, and its parameters that are learned, float32, by name; the network stays as it is.

    Args:
        kind: `FULL`: everything is copied, into float32; `LORA`: the weights are shared.
        rank: of the latter.
        seed: of what the weights start from.

    Raises:
        TrainingError: the weights are quantized or elsewhere, or PEFT is not installed.
    """
    _require_learnable(network)
    with torch.inference_mode(False):
        if kind == FULL:
            own = copy.deepcopy(network).float().requires_grad_(False)
            return own, dict(own.named_parameters())
        own = sharing_copy(network)
        return own, with_lora(own, rank, seed)


def sharing_copy(network: nn.Module) -> Any:
    """A copy of a network that shares its weights: other modules may be put into it."""
    shared = {id(tensor): tensor for tensor in (*network.parameters(), *network.buffers())}
    with torch.inference_mode(False):
        return copy.deepcopy(network, shared)


def with_lora(network: nn.Module, rank: int, seed: int) -> dict[str, nn.Parameter]:
    """Adds PEFT's LoRA, which changes nothing at first, to a network of one's own; the parameters of it, float32.

    Raises:
        TrainingError: the weights are quantized or elsewhere, or PEFT is not installed.
    """
    _require_learnable(network)
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
    # PEFT makes the first values with torch's own generator, on the CPU.
    with cpu_seeded(derived_seed(seed, "fine-tuning")):
        inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=rank, target_modules=targets), network)
    for shared, flag in flags.values():
        shared.requires_grad_(flag)  # Of the weights that the other network has too.
    learned = {}
    for name, parameter in network.named_parameters():
        if "lora_" in name:
            parameter.requires_grad_(False).data = parameter.data.float()
            learned[name] = parameter
    return learned


@contextmanager
def lora_paused(network: nn.Module) -> Iterator[None]:
    """Inside, a network computes without the LoRA that `with_lora` added."""
    layers = list(_adapted(network).values())
    flags = [(weight, weight.requires_grad) for layer in layers for weight in layer.parameters()]
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)
        for weight, flag in flags:  # Which PEFT sets as it pleases.
            weight.requires_grad_(flag)


def without_lora(network: nn.Module) -> None:
    """Takes the LoRA that `with_lora` added out of a network again."""
    for name, module in _adapted(network).items():
        owner, _, last = name.rpartition(".")
        setattr(network.get_submodule(owner), last, module.base_layer)


def lora_of(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What was learned as LoRA, as LoRA files of diffusers have it.

    Args:
        weights: those of `Tuned`, or of what came of fine-tuning.
    """
    return {NAME_OF_ADAPTER.sub(".weight", name): weight.detach().cpu().clone() for name, weight in weights.items()}


def add_lora(network: nn.Module, delta: Mapping[str, Tensor]) -> dict[str, nn.Parameter]:
    """Adds LoRA to weights of a network that are its own from then on; those that it shared stay as they are.

    Returns those of before, by the name of their layer.

    Args:
        delta: as `lora_of` has it, without the name of the part of the pipeline.

    Raises:
        ValueError: it does not fit the network.
    """
    layers = {name.removesuffix(ending) for name in delta for ending in MATRICES if name.endswith(ending)}
    if len(delta) != 2 * len(layers):
        raise ValueError("matrices come in pairs")
    before = {}
    with torch.inference_mode(False), torch.no_grad():
        for layer in sorted(layers):
            try:
                down, up = (delta[layer + ending].float().flatten(1) for ending in MATRICES)
                module = network.get_submodule(layer)
                name = layer
                if hasattr(module, BASE):  # Where a LoRA of the user's own is loaded.
                    module, name = module.base_layer, f"{layer}.{BASE}"
                weight = module.weight
                added = (up @ down).view(weight.shape).to(weight.device)
            except (KeyError, AttributeError, RuntimeError) as error:
                raise ValueError(f"'{layer}' does not fit") from error
            before[name] = weight
            module.weight = nn.Parameter((weight.float() + added).to(weight.dtype), requires_grad=False)
    return before


def _adapted(network: nn.Module) -> dict[str, Any]:
    """PEFT's layers with LoRA, by name."""
    return {name: module for name, module in network.named_modules() if hasattr(module, BASE)}


def _require_learnable(network: nn.Module) -> None:
    if not all(is_plain(weight) for weight in network.parameters()):
        raise TrainingError(
            "This model's weights are quantized or offloaded, and cannot be fine-tuned: load it as a whole, in half"
            " precision or float32."
        )


def _targets(network: nn.Module) -> list[str]:
    endings: Sequence[str] = (*ADAPTED, *ADAPTED_TEXT)
    kinds: tuple[Any, ...] = (nn.Linear, nn.Conv2d)
    return [
        name
        for name, module in network.named_modules()
        if isinstance(module, kinds) and any(name == ending or name.endswith(f".{ending}") for ending in endings)
    ]
