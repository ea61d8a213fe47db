"""Without this module benchmarks would need a real checkpoint: it writes one of SD1's layout with random weights."""

from __future__ import annotations

from pathlib import Path

WIDTH = 768
UNET = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 320,
    "num_res_blocks": [1, 1],
    "channel_mult": [1, 1],
    "transformer_depth": [1, 1],
    "transformer_depth_output": [1, 1, 1, 1],
    "transformer_depth_middle": 1,
    "use_spatial_transformer": True,
    "context_dim": WIDTH,
    "num_heads": 8,
    "legacy": False,
}
"""SD1's widths with two levels of one block each; the host recognizes it as SD1."""


def write_checkpoint(path: Path, seed: int = 0) -> Path:
    """Writes a checkpoint of SD1's layout without a VAE, half precision. `enter_host` must have been called."""
    import comfy.ldm.modules.diffusionmodules.openaimodel as openaimodel
    import comfy.ops
    import torch
    from comfy import sd1_clip
    from safetensors.torch import save_file

    unet = openaimodel.UNetModel(**UNET, dtype=torch.float32, operations=comfy.ops.disable_weight_init)
    text = sd1_clip.SD1ClipModel(dtype=torch.float32).clip_l.transformer
    generator = torch.Generator().manual_seed(seed)
    parts = (("model.diffusion_model.", unet), ("cond_stage_model.transformer.", text))
    weights = {
        prefix + name: _like(name, tensor, generator)
        for prefix, module in parts
        for name, tensor in module.state_dict().items()
        if name != "text_projection.weight"
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(weights, path)
    return path


def _like(name, tensor, generator):
    import torch

    if tensor.ndim < 2:  # Of norms, scales are one and shifts nothing.
        return torch.full(tensor.shape, float(name.endswith("weight")), dtype=torch.float16)
    deviation = tensor[0].numel() ** -0.5
    return (torch.randn(tensor.shape, generator=generator) * deviation).half()
