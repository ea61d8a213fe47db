"""Builds tiny pipelines of diffusers of every family, of the library's own classes.

Only widths and depths are small, and weights are random. Tokenizers are made of the files that the host ships.
"""

from __future__ import annotations

import functools
from types import MappingProxyType
from typing import Any

import torch

from anonymize_faces.demo.diffusers_folder import SCHEDULE, clip_tokenizer
from anonymize_faces.prefix import Prefix
from anonymize_faces.tests.support.prefixes import random_prefix
from anonymize_faces.tools.layout import host_folder

L, G, H, T5 = 32, 48, 40, 64
"""Widths of the text encoders."""

WIDTHS = {
    "sd1": {"l": L},
    "sd2": {"h": H},
    "sdxl": {"l": L, "g": G},
    "sd3": {"l": L, "g": G, "t5xxl": 96},
    "flux": {"l": L, "t5xxl": T5},
}
"""Widths of each family's vectors."""

UNET = {
    "sample_size": 8,
    "block_out_channels": (32,),
    "down_block_types": ("CrossAttnDownBlock2D",),
    "up_block_types": ("CrossAttnUpBlock2D",),
    "layers_per_block": 1,
    "attention_head_dim": 2,
    "norm_num_groups": 32,
}


def tiny_pipeline(family: str) -> Any:
    """A pipeline of a family, with a new scheduler and random weights, the same every time."""
    import diffusers

    made = {"sd1": _sd1, "sd2": _sd2, "sdxl": _sdxl, "sd3": _sd3, "flux": _flux}[family]()
    kind = {"sd3": "StableDiffusion3Pipeline", "flux": "FluxPipeline", "sdxl": "StableDiffusionXLPipeline"}
    pipeline = getattr(diffusers, kind.get(family, "StableDiffusionPipeline"))(**made)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _sd1() -> dict[str, Any]:
    from diffusers import DDIMScheduler, UNet2DConditionModel

    return {
        "tokenizer": clip_tokenizer(),
        "text_encoder": clip(L),
        "unet": random(UNet2DConditionModel(**UNET, cross_attention_dim=L), 1),
        "scheduler": DDIMScheduler(**SCHEDULE, clip_sample=False),
        "vae": vae(4),
        **NO_CHECKER,
    }


def _sd2() -> dict[str, Any]:
    from diffusers import DDIMScheduler, UNet2DConditionModel

    network = UNet2DConditionModel(**UNET, cross_attention_dim=H, use_linear_projection=True)
    return {
        "tokenizer": exclaiming_tokenizer(),
        "text_encoder": clip(H, hidden_act="gelu"),
        "unet": random(network, 1),
        "scheduler": DDIMScheduler(**SCHEDULE, clip_sample=False, prediction_type="v_prediction"),
        "vae": vae(4),
        **NO_CHECKER,
    }


def _sdxl() -> dict[str, Any]:
    from diffusers import EulerDiscreteScheduler, UNet2DConditionModel

    network = UNet2DConditionModel(
        **UNET,
        cross_attention_dim=L + G,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=G + 6 * 8,
    )
    return {
        "tokenizer": clip_tokenizer(),
        "text_encoder": clip(L),
        "tokenizer_2": exclaiming_tokenizer(),
        "text_encoder_2": clip(G, projection=True, hidden_act="gelu"),
        "unet": random(network, 1),
        "scheduler": EulerDiscreteScheduler(**SCHEDULE),
        "vae": vae(4),
        "force_zeros_for_empty_prompt": False,
    }


def _sd3() -> dict[str, Any]:
    from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel

    width = WIDTHS["sd3"]["t5xxl"]
    network = SD3Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=16,
        num_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=width,
        caption_projection_dim=32,
        pooled_projection_dim=L + G,
        out_channels=16,
        pos_embed_max_size=16,
    )
    return {
        "tokenizer": clip_tokenizer(),
        "text_encoder": clip(L, projection=True),
        "tokenizer_2": exclaiming_tokenizer(),
        "text_encoder_2": clip(G, projection=True, hidden_act="gelu"),
        "tokenizer_3": t5_tokenizer(),
        "text_encoder_3": t5(width),
        "transformer": random(network, 1),
        "scheduler": FlowMatchEulerDiscreteScheduler(shift=3.0),
        "vae": vae(16),
    }


def _flux() -> dict[str, Any]:
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxTransformer2DModel

    network = FluxTransformer2DModel(
        patch_size=1,
        in_channels=64,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=T5,
        pooled_projection_dim=L,
        guidance_embeds=True,
        axes_dims_rope=(4, 6, 6),
    )
    return {
        "tokenizer": clip_tokenizer(),
        "text_encoder": clip(L),
        "tokenizer_2": t5_tokenizer(),
        "text_encoder_2": t5(T5),
        "transformer": random(network, 1),
        "scheduler": FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        "vae": vae(16),
    }


NO_CHECKER = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}


@functools.cache
def exclaiming_tokenizer() -> Any:
    """CLIP's tokenizer as SD2 and SDXL have it: it pads with '!'."""
    tokenizer = clip_tokenizer()
    tokenizer.pad_token = "!"
    return tokenizer


@functools.cache
def t5_tokenizer() -> Any:
    """T5's."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(host_folder() / "comfy" / "text_encoders" / "t5_tokenizer")


def clip(width: int, projection: bool = False, hidden_act: str = "quick_gelu") -> Any:
    """A CLIP text model of three layers."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    sizes = {"hidden_size": width, "intermediate_size": 64, "projection_dim": width}
    depth = {"num_hidden_layers": 3, "num_attention_heads": 2, "bos_token_id": 49406, "eos_token_id": 49407}
    config = CLIPTextConfig(vocab_size=49408, hidden_act=hidden_act, **sizes, **depth)
    return random(CLIPTextModelWithProjection(config) if projection else CLIPTextModel(config), 2)


def t5(width: int) -> Any:
    """A T5 encoder of two layers."""
    from transformers import T5Config, T5EncoderModel

    sizes = {"d_model": width, "d_ff": 32, "d_kv": 8, "num_heads": 2, "num_layers": 2}
    return random(T5EncoderModel(T5Config(vocab_size=32128, feed_forward_proj="gated-gelu", **sizes)), 3)


def vae(channels: int) -> Any:
    """A small autoencoder of 8 pixels to a cell."""
    from diffusers import AutoencoderTiny

    return random(AutoencoderTiny(latent_channels=channels), 4)


def random(module: torch.nn.Module, seed: int) -> Any:
    """The module with weights that are the same every time, large enough for prompts to make a difference."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in module.named_parameters():
            if weight.ndim > 1:
                spread = 0.5 if "embed" in name or "shared" in name else 0.6 * weight[0].numel() ** -0.5
                weight.copy_(torch.randn(weight.shape, generator=generator) * spread)
            else:
                weight.fill_(1.0 if name.endswith(("weight", "scale")) else 0.0)
    return module.eval().requires_grad_(False)


SHORT, LONG = "a photo of Ada Lovelace", "a photo of a red circle on a table, " * 12 + "and Ada Lovelace"


DRAWN = {"num_inference_steps": 1, "height": 64, "width": 64, "output_type": "latent"}


def prefix_for(family: str, m: int = 4, seed: int = 0, layers: Any = MappingProxyType({}), **widths: int) -> Prefix:
    return random_prefix(widths or WIDTHS[family], m, seed, family=family, fingerprint="", layers=layers)


def arguments(pipeline: Any) -> dict[str, Any]:
    """What this family's `encode_prompt` needs beside the prompt."""
    name = type(pipeline).__name__
    given: dict[str, Any] = {"device": torch.device("cpu"), "num_images_per_prompt": 1}
    if name != "FluxPipeline":
        given["do_classifier_free_guidance"] = False
    if name == "StableDiffusion3Pipeline":
        given |= {"prompt_2": None, "prompt_3": None}
    return given
