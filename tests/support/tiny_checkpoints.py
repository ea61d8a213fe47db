"""Makes tiny checkpoints of the host's own classes, with random weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from anonymize_faces.tests.support.text_encoders import make_clip, read_once
from anonymize_faces.tests.support.tiny_models import ENCODER, UNET, CellVae


@dataclass(frozen=True)
class TinyCheckpoint:
    """What a checkpoint loader of the host returns."""

    model: Any
    clip: Any
    vae: Any


def randomize(module: torch.nn.Module, seed: int) -> None:
    """Gives every weight a value: the host's layers leave them uninitialized."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in module.named_parameters():
            if weight.ndim > 1:
                spread = 0.5 if "embedding" in name else weight[0].numel() ** -0.5
                weight.copy_(torch.randn(weight.shape, generator=generator) * spread)
            else:
                weight.fill_(1.0 if name.endswith("weight") else 0.0)


def tiny_checkpoint(
    parameterization: str = "EPS", family: str = "sd1", operations: Any = None, in_encoders: bool = True
) -> TinyCheckpoint:
    """A denoiser of 32 channels and text encoders of three layers, made of the host's own classes, random weights.

    Args:
        parameterization: a member of the host's `ModelType`.
        family: "sd1" (encoder l of width 32) or "sdxl" (encoders l and g of widths 32 and 48, pooled output).
        operations: the classes of the layers, if not the host's; their weights are left as they are.
        in_encoders: whether the text encoders' are of these as well.
    """
    import comfy.model_base
    import comfy.model_patcher
    import comfy.sd
    import comfy.supported_models
    from comfy import sd1_clip, sdxl_clip, supported_models_base

    if family == "sd1":
        host_config = comfy.supported_models.SD15
        unet = {**UNET, "context_dim": 32, "use_linear_in_transformer": False, "adm_in_channels": None}
        target = supported_models_base.ClipTarget(read_once(sd1_clip.SD1Tokenizer), sd1_clip.SD1ClipModel)
    else:
        host_config = comfy.supported_models.SDXL
        pooled_and_six_sizes = 48 + 6 * 256
        unet = {**UNET, "context_dim": 32 + 48, "use_linear_in_transformer": True}
        unet |= {"num_classes": "sequential", "adm_in_channels": pooled_and_six_sizes}
        target = supported_models_base.ClipTarget(read_once(sdxl_clip.SDXLTokenizer), sdxl_clip.SDXLClipModel)

    class TinyUNet(host_config):
        unet_extra_config: ClassVar[dict[str, Any]] = {}

        def model_type(self, state_dict: dict, prefix: str = "") -> Any:
            return comfy.model_base.ModelType[parameterization]

    config = TinyUNet({**unet, "dtype": torch.float32})
    config.set_inference_dtype(torch.float32, None)
    config.custom_operations = operations
    base = config.get_model({}, device=torch.device("cpu"))
    if operations is None:
        randomize(base.diffusion_model, 1)
    model = comfy.model_patcher.ModelPatcher(base, load_device=torch.device("cpu"), offload_device=torch.device("cpu"))
    widths = {
        "clip_l_model_config": {**ENCODER, "hidden_size": 32},
        "clip_g_model_config": {**ENCODER, "hidden_size": 48},
    }
    in_encoders = in_encoders and operations is not None
    if in_encoders:
        widths["custom_operations"] = operations
    clip = comfy.sd.CLIP(target, model_options={**widths, "dtype": torch.float32})
    if not in_encoders:
        randomize(clip.cond_stage_model, 2)
    return TinyCheckpoint(model, clip, CellVae())


def tiny_lumina() -> TinyCheckpoint:
    """Lumina 2: a transformer of four layers and a Gemma of three, made of the host's own classes, random weights."""
    import comfy.model_patcher
    import comfy.supported_models

    class TinyLumina(comfy.supported_models.Lumina2):
        unet_extra_config: ClassVar[dict[str, Any]] = {}

    sizes = {"in_channels": 16, "patch_size": 2, "dim": 64, "n_layers": 4, "n_refiner_layers": 1, "cap_feat_dim": 16}
    sizes |= {"n_heads": 2, "n_kv_heads": 2, "multiple_of": 32, "ffn_dim_multiplier": 1.0, "qk_norm": True}
    places = {"axes_dims": [8, 12, 12], "axes_lens": [300, 64, 64]}
    config = TinyLumina({"image_model": "lumina2", **sizes, **places, "dtype": torch.float32})
    config.set_inference_dtype(torch.float32, None)
    cpu = torch.device("cpu")
    base = config.get_model({}, device=cpu)
    randomize(base.diffusion_model, 1)
    model = comfy.model_patcher.ModelPatcher(base, load_device=cpu, offload_device=cpu)
    return TinyCheckpoint(model, make_clip("lumina 2"), CellVae())
