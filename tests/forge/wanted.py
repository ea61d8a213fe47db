"""Lists what ComfyUI's and Forge's side compare."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

ATTRIBUTES = {"l": "clip_l", "g": "clip_g", "h": "clip_h", "t5xxl": "t5xxl"}
FAMILIES = {"sd1": "l", "sd2": "h", "sdxl": "l g", "flux": "l t5xxl", "sd3": "l g t5xxl", "chroma": "t5xxl"}
LENGTH = 10
PLAIN = {
    "short": "a portrait of Ada Lovelace",
    "empty": "",
    "long": "the quick brown fox jumps over the lazy dog and runs " * 12,
}
"""Prompts whose conditionings are compared as well: both hosts read them alike."""

EMPHASIS = {"emphasis": "a (portrait of Ada:1.3) in a garden", "less": "a portrait of (Ada:0.7) and of Alan"}
"""Prompts to which the hosts do different things after the text encoder; what enters it is the same."""

STRENGTHS = (1.0, 0.4)


def first_layer(model: torch.nn.Module) -> torch.nn.Module:
    """Where embeddings enter: of a CLIP, with their positions, or of a T5."""
    return model.text_model.encoder.layers[0] if hasattr(model, "text_model") else model.encoder.block[0]


@contextmanager
def entering(models: dict[str, torch.nn.Module]) -> Iterator[dict[str, list[torch.Tensor]]]:
    """Collects what enters each text encoder: `[length, d]` for each chunk of each call."""
    seen: dict[str, list[torch.Tensor]] = {key: [] for key in models}

    def collect(key: str) -> Any:
        def hook(module: Any, arguments: Any, named: Any) -> None:
            states = arguments[0] if arguments else named["hidden_states"]
            seen[key].extend(row.detach().float().clone() for row in states)

        return hook

    hooks = [
        first_layer(model).register_forward_pre_hook(collect(key), with_kwargs=True) for key, model in models.items()
    ]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()
