"""Draws with tiny pipelines, and learns LoRAs in their UNets, for tests of experts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from anonymize_faces.engines.denoiser import LORA
from anonymize_faces.engines.diffusers.tuning import lora_of
from anonymize_faces.engines.options import Drawing
from anonymize_faces.tests.support.pipelines import DRAWN, SHORT

SIZE, DRAWING = (64, 64), Drawing(2, 2.0)
UNETS = ("sd1", "sd2", "sdxl")


def drawn(pipeline: Any, prompt: str = SHORT, steps: int = DRAWN["num_inference_steps"]) -> torch.Tensor:
    drawing = DRAWN | {"num_inference_steps": steps}
    return pipeline(prompt, generator=torch.Generator().manual_seed(1), **drawing).images


def delta_for(network: torch.nn.Module, *layers: str) -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(5)
    delta = {}
    for layer in layers:
        weight = network.get_submodule(layer).weight
        delta[f"unet.{layer}.lora_A.weight"] = torch.randn(2, *weight.shape[1:], generator=random)
        ones = [1] * (weight.ndim - 2)
        delta[f"unet.{layer}.lora_B.weight"] = torch.randn(weight.shape[0], 2, *ones, generator=random)
    return delta


def answers(denoiser: Any, conditioning: Any) -> torch.Tensor:
    with torch.no_grad():
        return denoiser.predict(torch.ones(1, *denoiser.latent_shape), torch.tensor([0.5]), conditioning)


def learned(what: Any, seed: int = 0) -> tuple[Any, Mapping[str, torch.Tensor]]:
    """A denoiser with a LoRA that changes what it answers, and what files have of it."""
    tuned = what.denoiser.tuned(LORA, 2, False, seed)
    random = torch.Generator().manual_seed(seed)
    for weight in tuned.weights.values():
        weight.data.normal_(0, 0.05, generator=random)
    return tuned, lora_of(tuned.weights)
