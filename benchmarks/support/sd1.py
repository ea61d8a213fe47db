"""Makes a model laid out like SD1's, with random weights, and its checkpoint file.

The denoiser has one block a level, as ComfyUI still takes for SD1; the text encoder is CLIP-L whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch

UNET = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 320,
    "num_res_blocks": [1, 1],
    "transformer_depth": [1, 1],
    "transformer_depth_output": [1, 1, 1, 1],
    "transformer_depth_middle": 1,
    "use_spatial_transformer": True,
    "use_linear_in_transformer": False,
    "context_dim": 768,
    "adm_in_channels": None,
    "num_heads": 8,
    "num_head_channels": -1,
    "use_temporal_attention": False,
    "legacy": False,
    "dtype": torch.float32,
}
LARGE, SMALL = (1, 2), (1, 1)
"""Widths of the denoiser's two levels, in 320 channels; the larger one has 107 M parameters."""


@dataclass(frozen=True)
class Sd1Checkpoint:
    """What a loader of the host returns, but for the VAE, of which the trainer asks one number."""

    model: Any
    clip: Any
    vae: Any


class Sd1Vae:
    """Eight pixels a cell."""

    def spacial_compression_encode(self) -> int:
        """Pixels that a latent's cell is wide."""
        return 8


def sd1_layout(levels: Sequence[int] = LARGE) -> Sd1Checkpoint:
    """The model; call inside the host (`demo.host.enter_host`)."""
    import comfy.model_patcher
    import comfy.sd
    import comfy.supported_models
    from comfy import sd1_clip, supported_models_base

    class Sd1Layout(comfy.supported_models.SD15):
        unet_extra_config: ClassVar[dict[str, Any]] = {}

    config = Sd1Layout({**UNET, "channel_mult": list(levels)})
    config.set_inference_dtype(torch.float32, None)
    cpu = torch.device("cpu")
    base = config.get_model({}, device=cpu)
    target = supported_models_base.ClipTarget(sd1_clip.SD1Tokenizer, sd1_clip.SD1ClipModel)
    clip = comfy.sd.CLIP(target, model_options={"dtype": torch.float32})
    _fill(base.diffusion_model, clip.cond_stage_model)
    return Sd1Checkpoint(comfy.model_patcher.ModelPatcher(base, load_device=cpu, offload_device=cpu), clip, Sd1Vae())


def write_checkpoint(path: Path, levels: Sequence[int] = SMALL) -> Path:
    """Writes the model to a checkpoint file with a VAE as small as TAESD's, half precision; call inside the host."""
    from comfy.taesd.taesd import TAESD
    from safetensors.torch import save_file

    checkpoint, vae = sd1_layout(levels), TAESD()
    _fill(vae.taesd_encoder, vae.taesd_decoder)
    parts = (
        ("first_stage_model.", vae),
        ("model.diffusion_model.", checkpoint.model.model.diffusion_model),
        ("cond_stage_model.transformer.", checkpoint.clip.cond_stage_model.clip_l.transformer),
    )
    weights = {
        prefix + name: tensor.half().contiguous()
        for prefix, module in parts
        for name, tensor in module.state_dict().items()
        if name != "text_projection.weight"
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(weights, path)
    return path


def _fill(*modules: torch.nn.Module) -> None:
    """Gives modules random weights with which signals keep their size, the same each time."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for module in modules:
            for name, weight in module.named_parameters():
                if weight.ndim > 1:
                    spread = 0.03 if "embedding" in name else weight[0].numel() ** -0.5
                    weight.normal_(0, spread, generator=generator)
                else:
                    weight.fill_(1.0 if name.endswith("weight") else 0.0)
