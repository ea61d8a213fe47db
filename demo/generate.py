"""Draws pictures with the demo model through the host's own sampler, without a server: many prompts in one batch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from ..runs.seeds import noise_of
from .sizes import DOWNSCALE, LATENT_CHANNELS
from .world.renderer import SIZE

if TYPE_CHECKING:
    import comfy.model_patcher
    import comfy.sd

STEPS = 20
FEW_STEPS = 6
"""Enough to see who is drawn: for the short forms of benchmarks, whose figures say nothing."""

GUIDANCE = 2.0
SAMPLER = "euler"
SCHEDULER = "normal"
BATCH = 64


@dataclass(frozen=True)
class DemoParts:
    """The loaded model.

    Attributes:
        steps: that the sampler makes.
    """

    model: comfy.model_patcher.ModelPatcher
    clip: comfy.sd.CLIP
    vae: comfy.sd.VAE
    steps: int = STEPS


def noise_for(seeds: Sequence[int]) -> torch.Tensor:
    """Start noise as the host makes it for each seed: [n, 12, 12, 12]."""
    shape = (1, LATENT_CHANNELS, SIZE // DOWNSCALE, SIZE // DOWNSCALE)
    return torch.cat([noise_of(shape, seed) for seed in seeds])


@torch.inference_mode()
def generate(
    parts: DemoParts, prompts: Sequence[str], seeds: Sequence[int], negative: str = "", guidance: float = GUIDANCE
) -> np.ndarray:
    """One picture for each prompt and seed: uint8 [n, 96, 96, 3], drawn together where states are alike in length."""
    states = {prompt: states_of(parts.clip, prompt) for prompt in dict.fromkeys((*prompts, negative))}
    return draw(parts, [states[prompt] for prompt in prompts], seeds, states[negative], guidance)


@torch.inference_mode()
def states_of(clip: comfy.sd.CLIP, prompt: str) -> torch.Tensor:
    """What the text encoder says of a prompt: [1, length, d]."""
    return clip.encode_from_tokens(clip.tokenize(prompt))


@torch.inference_mode()
def draw(
    parts: DemoParts,
    positive: Sequence[torch.Tensor],
    seeds: Sequence[int],
    negative: torch.Tensor,
    guidance: float = GUIDANCE,
    photos: np.ndarray | None = None,
    denoise: float = 1.0,
) -> np.ndarray:
    """One picture for each of `states_of` and each seed: uint8 [n, 96, 96, 3].

    Args:
        photos: uint8 [n, 96, 96, 3], that the pictures are drawn over ("image to image").
        denoise: how much of the way from noise to picture is gone.
    """
    alike: dict[int, list[int]] = defaultdict(list)
    for index, states in enumerate(positive):
        alike[states.shape[1]].append(index)
    pixels: list[np.ndarray | None] = [None] * len(positive)
    for some in (group[i : i + BATCH] for group in alike.values() for i in range(0, len(group), BATCH)):
        noise = noise_for([seeds[i] for i in some])
        start = torch.zeros_like(noise)
        if photos is not None:
            start = parts.vae.encode(torch.from_numpy(photos[some]).float() / 255)
        drawn = _drawn_together(
            parts, torch.cat([positive[i] for i in some]), negative, noise, guidance, start, denoise
        )
        for index, picture in zip(some, drawn, strict=True):
            pixels[index] = picture
    return np.stack([picture for picture in pixels if picture is not None])


def _drawn_together(
    parts: DemoParts,
    positive: torch.Tensor,
    negative: torch.Tensor,
    noise: torch.Tensor,
    guidance: float,
    start: torch.Tensor,
    denoise: float,
) -> np.ndarray:
    import comfy.sample

    conditions = ([[positive, {}]], [[negative.expand(len(noise), -1, -1), {}]])
    settings = (parts.steps, guidance, SAMPLER, SCHEDULER)
    latents = comfy.sample.sample(parts.model, noise, *settings, *conditions, start, denoise=denoise, disable_pbar=True)
    return (parts.vae.decode(latents).clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
