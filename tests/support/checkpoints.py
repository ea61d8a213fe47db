"""Writes checkpoints that are all header, to be told by it."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import torch

COMMON = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 320,
    "use_spatial_transformer": True,
    "use_checkpoint": False,
    "legacy": False,
}
FAMILIES = {
    "SD1": {
        **COMMON,
        "num_res_blocks": [2, 2, 2, 2],
        "channel_mult": [1, 2, 4, 4],
        "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
        "transformer_depth_middle": 1,
        "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
        "context_dim": 768,
        "num_heads": 8,
    },
    "SDXL": {
        **COMMON,
        "num_res_blocks": [2, 2, 2],
        "channel_mult": [1, 2, 4],
        "transformer_depth": [0, 0, 2, 2, 10, 10],
        "transformer_depth_middle": 10,
        "transformer_depth_output": [0, 0, 0, 2, 2, 2, 10, 10, 10],
        "context_dim": 2048,
        "num_head_channels": 64,
        "adm_in_channels": 2816,
        "num_classes": "sequential",
        "use_linear_in_transformer": True,
    },
}


def write_hollow_checkpoint(path: Path, family: str) -> None:
    """A checkpoint with the header of a real one and nothing in it; the host's modules must be importable."""
    import comfy.ops
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

    unet = UNetModel(**FAMILIES[family], device=torch.device("meta"), operations=comfy.ops.disable_weight_init)
    header, offset = {}, 0
    for key, tensor in unet.state_dict().items():
        size = 2 * tensor.numel()
        header[f"model.diffusion_model.{key}"] = {
            "dtype": "F16",
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + size],
        }
        offset += size
    text = json.dumps(header).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + offset)  # Sparse: it takes no room.
