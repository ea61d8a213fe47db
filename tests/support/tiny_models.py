"""Describes tiny models of the host's own classes."""

from __future__ import annotations

import torch

UNET = {
    "image_size": 8,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 32,
    "num_res_blocks": [1],
    "channel_mult": [1],
    "transformer_depth": [1],
    "transformer_depth_output": [1, 1],
    "transformer_depth_middle": 1,
    "use_spatial_transformer": True,
    "num_heads": 2,
    "use_temporal_attention": False,
    "legacy": False,
}
"""Sizes of a denoiser of 32 channels."""

ENCODER = {"num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 64}
"""Sizes of a CLIP text encoder, but for its width."""


class CellVae:
    """What the engine asks of a VAE: how many pixels a latent's cell is wide, and pictures, grey ones, of latents."""

    def spacial_compression_encode(self) -> int:
        return 8

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        grey = latents[:, :1].sigmoid().repeat_interleave(8, -1).repeat_interleave(8, -2)
        return grey.movedim(1, -1).expand(*grey.shape[0:1], *grey.shape[2:], 3)
