"""Patches a tiny checkpoint as Load LoRA does, and lists what a run might leave behind on it."""

from __future__ import annotations

from typing import Any

import torch

PATCHED = ("diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight", (32, 32))


def add_lora(checkpoint: Any) -> None:
    """What Load LoRA does to a model."""
    key, shape = PATCHED
    checkpoint.model.add_patches({key: (torch.randn(shape, generator=torch.Generator().manual_seed(9)),)}, 0.8)


def traces(checkpoint: Any) -> dict[str, Any]:
    """Everything about the model that a run might leave behind, but for the weights themselves."""
    found: dict[str, Any] = {"grad": torch.is_grad_enabled(), "inference": torch.is_inference_mode_enabled()}
    for part in (checkpoint.model.model, checkpoint.clip.cond_stage_model):
        for name, module in part.named_modules():
            hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks)
            found[name] = (module.training, [len(some) for some in hooks], "forward" in vars(module))
        for name, weight in part.named_parameters():
            found[name] = (weight.requires_grad, weight.grad)
    return found
