"""Trains the demo's VAE: pictures to 12x12x12 latents of unit scale and back."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
import torch.nn.functional as F
from comfy.taesd.taesd import TAESD

from ...prefix.digests import fingerprint
from ..loader import load_weights
from ..sizes import LATENT_CHANNELS
from ..world.renderer import SIZE
from .common import (
    Average,
    batch,
    device,
    half_precision,
    on_all_cores,
    pixels_to_tensor,
    rank,
    save_half,
    say,
    train,
    whole,
    world_size,
)
from .data import Rendered, load_or_render

LATENTS = "latents.pt"
CROP = 32
BATCH = 16
LEARNING_RATE = 1.5e-3
SPREAD_WEIGHT = 1e-3
NOISE = 0.03
WHOLE_BATCH = 5
DECODER_NOISE = 0.08


def _initialize(net: TAESD) -> None:
    """Signals of unit size through the plain convolutions, and residual branches that start small."""
    for module in net.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                torch.nn.init.zeros_(module.bias)
    for block in net.modules():
        if type(block).__name__ == "Block":
            block.conv[-1].weight.data *= 0.2
    torch.nn.init.ones_(net.vae_scale)
    torch.nn.init.zeros_(net.vae_shift)


def _inner(weights: list[torch.nn.Parameter]) -> list[torch.nn.Parameter]:
    """The kernels between the net's own channels, which take Muon's steps."""
    return [weight for weight in weights if weight.shape[:2] == (64, 64)]


def train_autoencoder(folder: Path, path: Path, minutes: float) -> None:
    """Learns to draw again what it saw, on crops: nothing in the host's TAESD looks further."""
    torch.manual_seed(rank())
    rendered = load_or_render(folder)
    net = TAESD(latent_channels=LATENT_CHANNELS).train()
    rate = LEARNING_RATE
    if path.exists():
        rate /= 2
        net.load_state_dict(load_weights("autoencoder", path.parent))
        say("going on from the saved weights")
    else:
        _initialize(net)
    net.to(device(), memory_format=torch.channels_last)
    average = Average(net, 0.999)
    generator = torch.Generator().manual_seed(rank())

    def step(_: int) -> torch.Tensor:
        picks = torch.randint(len(rendered.pixels), (batch(BATCH),), generator=generator).sort().values
        top, left = (8 * torch.randint(0, (SIZE - CROP) // 8 + 1, (2,), generator=generator)).tolist()
        x = pixels_to_tensor(rendered.stored[picks.to(device())][:, top : top + CROP, left : left + CROP])
        with half_precision():
            z = net.encode(x).float()
            y = net.decode(z + NOISE * torch.randn_like(z)).float()
        return _difference(y, x) + SPREAD_WEIGHT * z.square().mean()

    weights = [*net.taesd_encoder.parameters(), *net.taesd_decoder.parameters()]
    train("autoencoder", weights, step, minutes=minutes, learning_rate=rate, average=average, matrices=_inner(weights))
    if rank() != 0:
        return
    average.apply()
    net.eval()
    _rescale(net, rendered)
    save_half(net.state_dict(), path)
    with torch.no_grad():
        x = pixels_to_tensor(rendered.stored[:256])
        print(f"  autoencoder: mean absolute error {(net.decode(net.encode(x)) - x).abs().mean() / 2 * 255:.2f} of 255")


def refine_decoder(rendered: Rendered, path: Path, minutes: float) -> None:
    """Sharpens the decoder on whole pictures while the encoder, and so the latents, stay as they are.

    The encoder, which only pictures that are loaded need, is stored in eight bits a weight.
    """
    torch.manual_seed(1)
    net = TAESD(latent_channels=LATENT_CHANNELS)
    net.load_state_dict(load_weights("autoencoder", path.parent))
    net.requires_grad_(False).to(device(), memory_format=torch.channels_last)
    decoder = net.taesd_decoder.requires_grad_(True)
    average = Average(decoder, 0.999)

    def step(_: int) -> torch.Tensor:
        picks = torch.randint(len(rendered.pixels), (batch(WHOLE_BATCH),)).sort().values
        x = pixels_to_tensor(rendered.stored[picks.to(device())])
        with half_precision():
            with torch.no_grad():
                z = net.encode(x).float()
            y = net.decode(z + DECODER_NOISE * torch.rand((), device=z.device) * torch.randn_like(z)).float()
        return _difference(y, x)

    weights = list(decoder.parameters())
    train("decoder", weights, step, minutes=minutes, learning_rate=1e-3, average=average, matrices=_inner(weights))
    average.apply()
    save_half(net.state_dict(), path, coarse="taesd_encoder")


def _difference(y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Distance of pictures and of their edges."""
    edges = F.l1_loss(y[..., 1:] - y[..., :-1], x[..., 1:] - x[..., :-1])
    edges = edges + F.l1_loss(y[..., 1:, :] - y[..., :-1, :], x[..., 1:, :] - x[..., :-1, :])
    return F.l1_loss(y, x) + F.mse_loss(y, x) + edges


@torch.no_grad()
def _rescale(net: TAESD, rendered: Rendered) -> None:
    """Sets the host's own shift and scale of the latents so that they have no mean and unit spread."""
    z = torch.cat(
        [
            net.encode(pixels_to_tensor(rendered.stored[i : i + 256]))
            for i in range(0, min(512, len(rendered.pixels)), 256)
        ]
    )
    net.vae_shift.copy_((net.vae_shift - z.mean()) / z.std())
    net.vae_scale.mul_(z.std())


def prepare_latents(folder: Path, weights: Path) -> torch.Tensor:
    """Latents of all training pictures in the denoiser's scale, float16 [n, 12, 12, 12]; once for each autoencoder."""
    path = folder / LATENTS
    encoder = {n: t for n, t in load_weights("autoencoder", weights).items() if not n.startswith("taesd_decoder")}
    stamp = fingerprint(encoder)
    if path.exists():
        stored = torch.load(path, weights_only=True, map_location="cpu")
        if stored["stamp"] == stamp:
            return stored["latents"]
    parts = folder / "latents"
    parts.mkdir(exist_ok=True)
    on_all_cores("autoencoder", "encode_share", folder, weights, parts)
    files = sorted(parts.iterdir())
    latents = torch.cat([torch.load(file, weights_only=True, map_location="cpu") for file in files])
    with whole(path) as part:
        torch.save({"stamp": stamp, "latents": latents}, part)
    shutil.rmtree(parts)
    return latents


@torch.no_grad()
def encode_share(folder: Path, weights: Path, parts: Path) -> None:
    """Encodes this process' share of the training pictures, in their order, into a file named by its rank."""
    net = TAESD(latent_channels=LATENT_CHANNELS).eval().to(device(), memory_format=torch.channels_last)
    net.load_state_dict(load_weights("autoencoder", weights))
    out = []
    for some in load_or_render(folder).stored.tensor_split(world_size())[rank()].split(128):
        with half_precision():
            out.append(net.encode(pixels_to_tensor(some)).half().cpu().contiguous())
    torch.save(torch.cat(out), parts / f"{rank():03d}.pt")
