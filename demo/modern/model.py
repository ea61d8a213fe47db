"""Builds the second model's denoiser in the host's Lumina 2 / Z-Image class: a flow-matching transformer, made small.

It reads latents in patches of two by two next to the states of the language model, in one sequence.
"""

from __future__ import annotations

from typing import Any

import comfy.ldm.lumina.model as lumina
import comfy.model_base
import comfy.model_patcher
import comfy.ops
import comfy.supported_models
import torch
from comfy import model_management

from ...engines.automatic import UsualDrawing
from ..model import DemoLatents
from ..sizes import LATENT_CHANNELS
from ..world.renderer import SIZE
from .text_model import WIDTH

DENOISER_CONFIG: dict[str, Any] = {
    "image_model": "lumina2",
    "patch_size": 2,
    "in_channels": LATENT_CHANNELS,
    "dim": 256,
    "n_layers": 6,
    "n_refiner_layers": 1,
    "n_heads": 4,
    "n_kv_heads": 4,
    "multiple_of": 32,
    "ffn_dim_multiplier": 1.0,
    "qk_norm": True,
    "cap_feat_dim": WIDTH,
    "axes_dims": [16, 24, 24],
    "axes_lens": [300, 64, 64],
    "z_image_modulation": True,
    "time_scale": 1000.0,
}


UNUSED = "norm_final.weight"


class ModernModel(comfy.supported_models.Lumina2):
    """The host's description of Lumina 2, with the demo's sizes and latents."""

    unet_extra_config: dict = {}
    usual_drawing = UsualDrawing(SIZE, 20, 2.0)
    latent_format = DemoLatents
    sampling_settings = {"multiplier": 1.0, "shift": 1.0}


def new_denoiser(dtype: torch.dtype = torch.float32) -> lumina.NextDiT:
    """The transformer with uninitialized weights, as the host makes it."""
    return lumina.NextDiT(**{**DENOISER_CONFIG, "dtype": dtype}, operations=comfy.ops.disable_weight_init)


def new_model(weights: dict[str, torch.Tensor]) -> comfy.model_patcher.ModelPatcher:
    """The host's MODEL around the denoiser with the given weights."""
    config = ModernModel(dict(DENOISER_CONFIG))
    config.set_inference_dtype(torch.float32, None)
    device, offload = model_management.get_torch_device(), model_management.unet_offload_device()
    base = config.get_model({}, device=offload)
    # Older hosts declare this norm and make no use of it; newer ones do without.
    expected = base.diffusion_model.state_dict()
    weights = {name: weight for name, weight in weights.items() if name in expected or name != UNUSED}
    base.diffusion_model.load_state_dict(weights)
    return comfy.model_patcher.ModelPatcher(base, load_device=device, offload_device=offload)
