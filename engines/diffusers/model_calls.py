"""Calls the denoisers of pipelines: one question for all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from . import Encoded

GUIDANCE = 3.5
"""What Flux is told of guidance, which it has learned instead of drawing every picture twice: its makers' own value."""

Ask = Callable[[Any, Tensor, Tensor, Encoded, int], Tensor]
"""`(denoiser, latents as it sees them, timesteps, conditioning, pixels to a cell) → its output`."""


def ask_unet(denoiser: Any, latents: Tensor, timesteps: Tensor, conditioning: Encoded, cell: int) -> Tensor:
    """Of SD1, SD2 and SDXL; SDXL is told that the picture is whole and as large as it is."""
    added = None
    if conditioning.pooled is not None:
        height, width = (side * cell for side in latents.shape[-2:])
        sizes = torch.tensor([[height, width, 0, 0, height, width]]).expand(len(latents), -1)
        added = {"text_embeds": conditioning.pooled, "time_ids": sizes.to(conditioning.pooled)}
    return denoiser(
        latents, timesteps, encoder_hidden_states=conditioning.states, added_cond_kwargs=added, return_dict=False
    )[0]


def ask_sd3(denoiser: Any, latents: Tensor, timesteps: Tensor, conditioning: Encoded, cell: int) -> Tensor:
    """Of SD3 and SD3.5."""
    return denoiser(
        hidden_states=latents,
        timestep=timesteps,
        encoder_hidden_states=conditioning.states,
        pooled_projections=conditioning.pooled,
        return_dict=False,
    )[0]


def ask_flux(denoiser: Any, latents: Tensor, timesteps: Tensor, conditioning: Encoded, cell: int) -> Tensor:
    """Of Flux, which sees patches of four cells in a row."""
    height, width = latents.shape[-2:]
    guidance = latents.new_full([len(latents)], GUIDANCE) if denoiser.config.guidance_embeds else None
    predicted = denoiser(
        hidden_states=packed(latents),
        timestep=timesteps / 1000,
        guidance=guidance,
        pooled_projections=conditioning.pooled,
        encoder_hidden_states=conditioning.states,
        txt_ids=latents.new_zeros(conditioning.states.shape[1], 3),
        img_ids=_places(height // 2, width // 2).to(latents),
        return_dict=False,
    )[0]
    return unpacked(predicted, height, width)


ASK: dict[str, Ask] = {"sd1": ask_unet, "sd2": ask_unet, "sdxl": ask_unet, "sd3": ask_sd3, "flux": ask_flux}
"""How to ask the denoiser of each family."""


def packed(latents: Tensor) -> Tensor:
    """Latents `[B, C, H, W]` as Flux sees them: `[B, H W / 4, 4 C]`."""
    batch, channels, height, width = latents.shape
    patches = latents.view(batch, channels, height // 2, 2, width // 2, 2).permute(0, 2, 4, 1, 3, 5)
    return patches.reshape(batch, height * width // 4, 4 * channels)


def unpacked(patches: Tensor, height: int, width: int) -> Tensor:
    """The inverse of `packed`."""
    batch, _, channels = patches.shape
    cells = patches.view(batch, height // 2, width // 2, channels // 4, 2, 2).permute(0, 3, 1, 4, 2, 5)
    return cells.reshape(batch, channels // 4, height, width)


def _places(rows: int, columns: int) -> Tensor:
    """Where each patch lies, `[rows * columns, 3]`."""
    places = torch.zeros(rows, columns, 3)
    places[..., 1] = torch.arange(rows).unsqueeze(1)
    places[..., 2] = torch.arange(columns)
    return places.view(-1, 3)
