"""Builds the parts of the demo model from ComfyUI's own classes, so that every node runs on them unchanged.

An SD1-type UNet (v-prediction), an SD1 CLIP text model with the host's tokenizer, and a TAESD with 8x downscale.
"""

from __future__ import annotations

import comfy.latent_formats
import comfy.ldm.modules.diffusionmodules.openaimodel as openaimodel
import comfy.model_base
import comfy.model_patcher
import comfy.ops
import comfy.sd
import comfy.supported_models
import torch
from comfy import model_management, sd1_clip, supported_models_base

from ..engines.automatic import UsualDrawing

CONTEXT_DIM = 192
LATENT_CHANNELS = 16
CLIP_CONFIG = {
    "hidden_size": CONTEXT_DIM,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "intermediate_size": 4 * CONTEXT_DIM,
    "projection_dim": CONTEXT_DIM,
}
UNET_CONFIG = {
    "image_size": 8,
    "in_channels": LATENT_CHANNELS,
    "out_channels": LATENT_CHANNELS,
    "model_channels": 64,
    "num_res_blocks": [1, 1],
    "channel_mult": [1, 2],
    "transformer_depth": [0, 1],
    "transformer_depth_output": [1, 1, 1, 1],
    "transformer_depth_middle": 0,
    "use_spatial_transformer": True,
    "use_linear_in_transformer": False,
    "context_dim": CONTEXT_DIM,
    "num_heads": 2,
    "num_head_channels": -1,
    "adm_in_channels": None,
    "use_temporal_attention": False,
    "legacy": False,
    "dtype": torch.float32,
}


class DemoLatents(comfy.latent_formats.LatentFormat):
    """Sixteen channels of unit scale."""

    scale_factor = 1.0
    latent_channels = LATENT_CHANNELS


class DemoModel(comfy.supported_models.SD15):
    """The host's description of SD1, with the demo's sizes; it predicts v."""

    unet_extra_config: dict = {}
    usual_drawing = UsualDrawing(64, 20, 2.0)
    latent_format = DemoLatents

    def model_type(self, state_dict: dict, prefix: str = "") -> comfy.model_base.ModelType:
        """The parameterization of the denoiser."""
        return comfy.model_base.ModelType.V_PREDICTION

    def inpaint_model(self) -> bool:
        """The host takes more than four channels for an inpainting model."""
        return False


def new_unet(dtype: torch.dtype = torch.float32) -> openaimodel.UNetModel:
    """The denoiser with uninitialized weights, as the host makes it."""
    return openaimodel.UNetModel(**{**UNET_CONFIG, "dtype": dtype}, operations=comfy.ops.disable_weight_init)


def new_clip(embedding_directory: list[str] | None = None) -> comfy.sd.CLIP:
    """The host's CLIP around an SD1 text model of the demo's size, weights uninitialized."""
    target = supported_models_base.ClipTarget(sd1_clip.SD1Tokenizer, sd1_clip.SD1ClipModel)
    options = {"clip_l_model_config": CLIP_CONFIG, "dtype": torch.float32}
    tokens = {}
    clip = comfy.sd.CLIP(target, embedding_directory=embedding_directory, tokenizer_data=tokens, model_options=options)
    clip.tokenizer.clip_l.embedding_size = CONTEXT_DIM
    return clip


def new_model(unet_weights: dict[str, torch.Tensor]) -> comfy.model_patcher.ModelPatcher:
    """The host's MODEL around the denoiser with the given weights."""
    config = DemoModel(UNET_CONFIG)
    config.set_inference_dtype(torch.float32, None)
    device = model_management.get_torch_device()
    offload = model_management.unet_offload_device()
    base = config.get_model({}, device=offload)
    base.diffusion_model.load_state_dict(unet_weights)
    return comfy.model_patcher.ModelPatcher(base, load_device=device, offload_device=offload)


def new_vae(weights: dict[str, torch.Tensor]) -> comfy.sd.VAE:
    """The host's VAE (a TAESD) with the given weights."""
    return comfy.sd.VAE(sd=weights, dtype=torch.float32)
