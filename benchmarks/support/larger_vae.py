"""Trains an encoder of the host's AutoencoderKL to give the latents of the demo model's own VAE, a small TAESD.

The demo's denoisers and its decoder stay as they are, so that what differs is how pictures are read alone.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ...demo.making.common import Average, initialize, pixels_to_tensor, save_half, train
from ...demo.sizes import LATENT_CHANNELS
from ...demo.world.renderer import KINDS, SIZE, draw_all, random_picture
from ...runs.digest import digest_of

LAYOUT: dict[str, Any] = {
    "double_z": True,
    "z_channels": LATENT_CHANNELS,
    "resolution": SIZE,
    "in_channels": 3,
    "out_ch": 3,
    "ch": 32,
    "ch_mult": (1, 2, 4, 4),
    "num_res_blocks": 1,
    "attn_resolutions": (),
    "dropout": 0.0,
}
"""That of Stable Diffusion's VAE with a quarter of its channels, and one block where that has two."""

PICTURES, PEOPLE_SHARE = 6000, 0.6
BATCH, RATE = 8, 1e-3
SEED = 41


class LargerVae(nn.Module):
    """Encodes by the new encoder, and decodes as the demo does.

    Args:
        own: the demo's.
    """

    def __init__(self, own: nn.Module) -> None:
        from comfy.ldm.modules.diffusionmodules.model import Encoder

        super().__init__()
        self.encoder = Encoder(**LAYOUT)
        self.own = own

    def encode(self, pictures: Tensor) -> Tensor:
        """Latents `[B, channels, h, w]` of pictures `[B, 3, height, width]` in -1 to 1: their mean."""
        mean: Tensor = self.encoder(pictures).chunk(2, 1)[0]
        return mean

    def decode(self, latents: Tensor) -> Tensor:
        """Pictures of latents."""
        pictures: Tensor = self.own.decode(latents)
        return pictures


def larger_vae(vae: Any, folder: Path, minutes: float) -> Any:
    """The host's VAE with the larger encoder, from its file in the folder, or trained and written there first.

    Args:
        vae: the demo's, which stays as it is.
        minutes: that training takes.
    """
    from comfy.model_patcher import ModelPatcher

    made = LargerVae(vae.first_stage_model)
    follows_from = digest_of(vae.first_stage_model, LAYOUT, PICTURES, PEOPLE_SHARE, BATCH, RATE, SEED, minutes)
    file = folder / f"larger vae {follows_from}.safetensors"
    if not file.is_file():
        _train(made, file, minutes)
    made.encoder.load_state_dict(load_file(file))
    made.encoder.eval().requires_grad_(False)
    larger = copy.copy(vae)
    larger.first_stage_model = made
    larger.size = None
    larger.patcher = ModelPatcher(made, vae.patcher.load_device, vae.patcher.offload_device)
    return larger


def _train(vae: LargerVae, file: Path, minutes: float) -> None:
    torch.manual_seed(SEED)
    rng = np.random.default_rng(SEED)
    others = [kind for kind in KINDS if kind != "person"]
    kinds = ["person" if rng.random() < PEOPLE_SHARE else str(rng.choice(others)) for _ in range(PICTURES)]
    pixels = torch.from_numpy(draw_all([random_picture(rng, kind) for kind in kinds]))
    encoder = vae.encoder.train()
    initialize(encoder)
    average = Average(encoder, 0.995)

    def step(_: int) -> Tensor:
        shown = pixels_to_tensor(pixels[torch.randint(len(pixels), (BATCH,))])
        with torch.no_grad():
            wanted = vae.own.encode(shown)
        return (vae.encode(shown) - wanted).square().mean()

    with torch.inference_mode(False), torch.enable_grad():
        matrices = [weight for weight in encoder.parameters() if weight.ndim == 4 and weight.shape[1] > 3]
        train(
            "larger encoder",
            list(encoder.parameters()),
            step,
            minutes=minutes,
            learning_rate=RATE,
            average=average,
            matrices=matrices,
        )
        average.apply()
    save_half(encoder.state_dict(), file)
