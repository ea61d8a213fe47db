"""`python -m anonymize_faces.demo.diffusers_folder FOLDER`: writes the demo model as diffusers keeps a pipeline.

The same weights under other names, so that the headless trainer, and whoever uses diffusers, can learn and draw with
what ComfyUI draws with. Nothing of ComfyUI is imported; the tokenizer's files are read from its folder.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..tools.command import run_command
from ..tools.layout import host_folder
from .loader import load_weights, text_model_weights
from .sizes import LATENT_CHANNELS, TEXT_HEADS, TEXT_INNER, TEXT_LAYERS, VOCABULARY, WIDTH

if TYPE_CHECKING:
    from diffusers import AutoencoderTiny, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer

SCHEDULE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}


def demo_pipeline() -> StableDiffusionPipeline:
    """The demo model as a pipeline of diffusers, on the CPU, float32."""
    from diffusers import EulerDiscreteScheduler, StableDiffusionPipeline

    scheduler = EulerDiscreteScheduler(**SCHEDULE, prediction_type="v_prediction", timestep_spacing="linspace")
    return StableDiffusionPipeline(
        vae=_autoencoder(),
        text_encoder=_text_model(),
        tokenizer=clip_tokenizer(),
        unet=_denoiser(),
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def clip_tokenizer() -> CLIPTokenizer:
    """CLIP's tokenizer, of the files that the host ships."""
    from transformers import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(host_folder() / "comfy" / "sd1_tokenizer", model_max_length=77)


def _denoiser() -> UNet2DConditionModel:
    from diffusers import UNet2DConditionModel
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    unet = UNet2DConditionModel(
        sample_size=12,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        block_out_channels=(64, 128),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=WIDTH,
        attention_head_dim=2,
    )
    weights = {f"model.diffusion_model.{name}": weight for name, weight in load_weights("denoiser").items()}
    converted = convert_ldm_unet_checkpoint(weights, dict(unet.config))
    return _filled(unet, _with_silent_middle(unet, converted))


def _with_silent_middle(unet: UNet2DConditionModel, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights, with a block in the middle that adds nothing: diffusers has none of depth 0, which the demo's is."""
    silent = {name: torch.zeros_like(w) for name, w in unet.state_dict().items() if _is_in_middle_block(name)}
    return {**weights, **silent}


def _is_in_middle_block(name: str) -> bool:
    return name.startswith("mid_block.attentions.0.transformer_blocks.")


def _text_model() -> CLIPTextModel:
    from transformers import CLIPTextConfig, CLIPTextModel

    model = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=VOCABULARY,
            hidden_size=WIDTH,
            intermediate_size=TEXT_INNER,
            projection_dim=WIDTH,
            num_hidden_layers=TEXT_LAYERS,
            num_attention_heads=TEXT_HEADS,
            bos_token_id=49406,
            eos_token_id=49407,
        )
    )
    # Older versions of transformers have the names that the weights have; newer ones leave out the first word.
    nested = any(name.startswith("text_model.") for name in model.state_dict())
    weights = text_model_weights(load_weights("language"))
    weights.pop("text_projection.weight")  # One: SD1 makes no use of it.
    return _filled(model, {name if nested else name.removeprefix("text_model."): w for name, w in weights.items()})


def _autoencoder() -> AutoencoderTiny:
    from diffusers import AutoencoderTiny

    stored = load_weights("autoencoder")
    scale, shift = float(stored.pop("vae_scale")), float(stored.pop("vae_shift"))
    weights = {}
    for name, weight in stored.items():
        half, number, rest = name.removeprefix("taesd_").split(".", 2)
        # The decoder's first layer, which limits the latents, has no number in diffusers.
        weights[f"{half}.layers.{int(number) - (half == 'decoder')}.{rest}"] = weight
    # The host decodes (latents - shift) * scale, diffusers latents / scaling_factor + shift_factor.
    sizes = {"latent_channels": LATENT_CHANNELS, "scaling_factor": 1 / scale, "shift_factor": -shift * scale}
    return _filled(AutoencoderTiny(**sizes), weights)


def _filled(module: Any, weights: dict[str, Tensor]) -> Any:
    """The module with exactly these weights."""
    module.load_state_dict(weights)
    return module.eval().requires_grad_(False)


def main() -> None:
    """Writes the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where to write it")
    folder = parser.parse_args().folder
    demo_pipeline().save_pretrained(folder)
    print(f"The demo model is now in {folder}, as diffusers keeps it.")


if __name__ == "__main__":
    sys.exit(run_command(main))
