"""Builds full-size layouts of SD1.5, SDXL and Flux from the host's own classes, with random weights."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from .sd1 import Sd1Checkpoint, Sd1Vae

SIZES = {"sd15": 512, "sdxl": 1024, "flux": 1024}
"""Pixels a side that each is used to."""

FORMATS = {
    "fp16": (torch.float16, None),
    "bf16": (torch.bfloat16, None),
    "fp8": (torch.float8_e4m3fn, torch.bfloat16),
}
"""Of the denoiser's weights, and what it computes in if that is another."""

_UNET = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 320,
    "use_spatial_transformer": True,
    "use_temporal_attention": False,
    "legacy": False,
}


@dataclass(frozen=True)
class Layout:
    """What the host calls the parts, and the denoiser's sizes.

    Attributes:
        config: class in the host's `supported_models`.
        network: sizes of its denoiser.
        text: module of the host with its tokenizer and text encoders, and their names there.
    """

    config: str
    network: Mapping[str, Any]
    text: tuple[str, str, str]


LAYOUTS = {
    "sd15": Layout(
        "SD15",
        {
            **_UNET,
            "num_res_blocks": [2, 2, 2, 2],
            "channel_mult": [1, 2, 4, 4],
            "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
            "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
            "transformer_depth_middle": 1,
            "use_linear_in_transformer": False,
            "context_dim": 768,
            "adm_in_channels": None,
            "num_heads": 8,
            "num_head_channels": -1,
        },
        ("comfy.sd1_clip", "SD1Tokenizer", "SD1ClipModel"),
    ),
    "sdxl": Layout(
        "SDXL",
        {
            **_UNET,
            "num_res_blocks": [2, 2, 2],
            "channel_mult": [1, 2, 4],
            "transformer_depth": [0, 0, 2, 2, 10, 10],
            "transformer_depth_output": [0, 0, 0, 2, 2, 2, 10, 10, 10],
            "transformer_depth_middle": 10,
            "use_linear_in_transformer": True,
            "context_dim": 2048,
            "num_classes": "sequential",
            "adm_in_channels": 2816,
            "num_heads": -1,
            "num_head_channels": 64,
        },
        ("comfy.sdxl_clip", "SDXLTokenizer", "SDXLClipModel"),
    ),
    "flux": Layout(
        "Flux",
        {
            "image_model": "flux",
            "in_channels": 16,
            "out_channels": 16,
            "vec_in_dim": 768,
            "context_in_dim": 4096,
            "hidden_size": 3072,
            "mlp_ratio": 4.0,
            "num_heads": 24,
            "depth": 19,
            "depth_single_blocks": 38,
            "axes_dim": [16, 56, 56],
            "theta": 10000,
            "patch_size": 2,
            "qkv_bias": True,
            "guidance_embed": True,
        },
        ("comfy.text_encoders.flux", "FluxTokenizer", "FluxClipModel"),
    ),
}


def build(name: str, weights: str) -> Sd1Checkpoint:
    """The model, its weights in the main memory; call inside the host, which then loads them as it does any.

    Args:
        name: one of `LAYOUTS`.
        weights: one of `FORMATS`; text encoders are in float16.
    """
    import comfy.model_management
    import comfy.model_patcher
    import comfy.sd
    import comfy.supported_models
    from comfy import supported_models_base

    layout = LAYOUTS[name]
    network = dict(layout.network)
    flux = importlib.import_module("comfy.ldm.flux.model")
    if name == "flux" and "txt_ids_dims" in flux.FluxParams.__dataclass_fields__:
        network["txt_ids_dims"] = []

    class Whole(getattr(comfy.supported_models, layout.config)):
        unet_extra_config: ClassVar[dict[str, Any]] = {}

    config = Whole(network)
    config.set_inference_dtype(*FORMATS[weights])
    cpu = torch.device("cpu")
    with torch.inference_mode():
        base = config.get_model({}, device=cpu)
        module, tokenizer, encoder = layout.text
        text = importlib.import_module(module)
        target = supported_models_base.ClipTarget(getattr(text, tokenizer), getattr(text, encoder))
        if name == "flux":
            target.params["dtype_t5"] = torch.float16
        clip = comfy.sd.CLIP(target, model_options={"dtype": torch.float16})
        fill(base.diffusion_model)
        fill(clip.cond_stage_model)
    device = comfy.model_management.get_torch_device()
    return Sd1Checkpoint(comfy.model_patcher.ModelPatcher(base, load_device=device, offload_device=cpu), clip, Sd1Vae())


def fill(module: torch.nn.Module) -> None:
    """Gives a module random weights with which signals keep their size, made on the graphics card if there is one."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    generator = torch.Generator(device).manual_seed(0)
    for name, weight in module.named_parameters():
        if weight.ndim > 1:
            # The embeddings of CLIPs lie close together, those of T5 far apart.
            spread = (1.0 if "shared" in name else 0.03) if "embed" in name else 0.7 * weight[0].numel() ** -0.5
            values = torch.randn(weight.shape, generator=generator, device=device, dtype=torch.float16) * spread
        else:
            values = torch.full(weight.shape, 1.0 if name.endswith(("weight", "scale")) else 0.0, device=device)
        weight.data.copy_(values.to(weight.dtype))
