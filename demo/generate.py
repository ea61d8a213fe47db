"""Draws pictures with the demo model through the host's own sampler, without a server: many prompts in one batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from .sizes import DOWNSCALE, LATENT_CHANNELS
from .world.renderer import SIZE

if TYPE_CHECKING:
    import comfy.model_patcher
    import comfy.sd

STEPS = 20
GUIDANCE = 2.0
SAMPLER = "euler"
SCHEDULER = "normal"
BATCH = 64


@dataclass(frozen=True)
class DemoParts:
    """The loaded model."""

    model: comfy.model_patcher.ModelPatcher
    clip: comfy.sd.CLIP
    vae: comfy.sd.VAE


def noise_for(seeds: Sequence[int]) -> torch.Tensor:
    """Start noise as the host makes it for each seed: [n, 12, 12, 12]."""
    shape = (1, LATENT_CHANNELS, SIZE // DOWNSCALE, SIZE // DOWNSCALE)
    return torch.cat([torch.randn(shape, generator=torch.manual_seed(seed)) for seed in seeds])


def _encode(clip: comfy.sd.CLIP, prompts: Sequence[str]) -> torch.Tensor:
    known: dict[str, torch.Tensor] = {}
    for prompt in prompts:
        if prompt not in known:
            known[prompt] = clip.encode_from_tokens(clip.tokenize(prompt))
    return torch.cat([known[prompt] for prompt in prompts])


@torch.inference_mode()
def generate(
    parts: DemoParts, prompts: Sequence[str], seeds: Sequence[int], negative: str = "", guidance: float = GUIDANCE
) -> np.ndarray:
    """One picture for each prompt and seed: uint8 [n, 96, 96, 3]. All prompts must take equally many chunks."""
    import comfy.sample

    out = []
    for start in range(0, len(prompts), BATCH):
        some = prompts[start : start + BATCH]
        noise = noise_for(seeds[start : start + BATCH])
        positive = [[_encode(parts.clip, some), {}]]
        empty = [[_encode(parts.clip, [negative] * len(some)), {}]]
        latents = comfy.sample.sample(
            parts.model,
            noise,
            STEPS,
            guidance,
            SAMPLER,
            SCHEDULER,
            positive,
            empty,
            torch.zeros_like(noise),
            disable_pbar=True,
        )
        out.append((parts.vae.decode(latents).clamp(0, 1) * 255).round().to(torch.uint8).numpy())
    return np.concatenate(out)
