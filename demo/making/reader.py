"""Trains the reader on renders of strangers and things: it never sees the cast, nor a picture that the denoiser drew.

Half of the renders go through the autoencoder first, as every drawn picture does, so that the reader knows what is lost
on the way: which features can still be read, and how well.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from comfy.taesd.taesd import TAESD

from ..loader import load_weights
from ..measuring.reader import ReaderNet
from ..sizes import LATENT_CHANNELS
from ..world.people import GEOMETRY, HAIR, SKIN
from ..world.renderer import KINDS, SIZE
from .autoencoder import prepare_latents
from .common import Average, batch, device, half_precision, rank, save_half, say, train, whole, world_size
from .data import Rendered, load_or_render

BATCH = 128
DECODED = 8000
LATENT_NOISE = 0.15
CALIBRATION = 600


def _truth(rendered: Rendered, keep: list[int]) -> dict[str, torch.Tensor]:
    rows = [rendered.pictures[i] for i in keep]
    looks = [
        (HAIR.index(p.looks.hair), SKIN.index(p.looks.skin), int(p.looks.glasses), int(p.looks.beard))
        if p.looks
        else (-100,) * 4
        for p in rows
    ]
    truth = dict(zip(("hair", "skin", "glasses", "beard"), torch.tensor(looks).T, strict=True))
    truth["kind"] = torch.tensor([KINDS.index(p.kind) for p in rows])
    truth["face"] = torch.tensor([p.kind == "person" for p in rows])
    truth["geometry"] = torch.tensor([p.geometry or (0.0,) * len(GEOMETRY) for p in rows])
    return truth


def decoded(folder: Path, weights: Path) -> tuple[list[int], torch.Tensor]:
    """Which renders (none of the cast) went through the autoencoder with a little noise, and how they came out."""
    path = folder / "decoded.pt"
    rendered = load_or_render(folder)
    chosen = [i for i, p in enumerate(rendered.pictures) if p.person is None][:DECODED]
    if not path.exists():
        latents = prepare_latents(folder, weights)
        net = TAESD(latent_channels=LATENT_CHANNELS).to(device(), memory_format=torch.channels_last)
        net.load_state_dict(load_weights("autoencoder", weights))
        out = []
        with torch.no_grad(), half_precision():
            for z in latents[chosen].float().to(device()).split(200):
                y = net.decode(z + LATENT_NOISE * torch.rand((len(z), 1, 1, 1), device=z.device) * torch.randn_like(z))
                out.append(((y.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).cpu().contiguous())
        with whole(path) as part:
            torch.save(torch.cat(out), part)
    return chosen, torch.load(path, weights_only=True, map_location="cpu")


def train_reader(folder: Path, path: Path, minutes: float) -> None:
    """Learns looks as classes and geometry by regression, on shifted, blurred and noisy renders; weighs features."""
    torch.manual_seed(rank())
    rendered = load_or_render(folder)
    net = ReaderNet().to(device())
    if path.exists():
        net.load_state_dict(load_weights("reader", path.parent), strict=False)
        say("going on from the saved weights")
    keep = [i for i, p in enumerate(rendered.pictures) if p.person is None]
    through, lossy = decoded(folder, path.parent)
    pixels = torch.cat([torch.from_numpy(rendered.pixels[keep]).permute(0, 3, 1, 2), lossy]).to(device())
    truth = {name: value.to(device()) for name, value in _truth(rendered, [*keep, *through]).items()}
    sharp, calibrating = torch.arange(len(keep)), torch.arange(len(pixels) - CALIBRATION, len(pixels))
    soft = torch.arange(len(keep), len(pixels) - CALIBRATION)
    average = Average(net, 0.998)
    half = batch(BATCH) // world_size() // 2

    def step(_: int) -> torch.Tensor:
        picks = torch.cat([pool[torch.randint(len(pool), (half,))] for pool in (sharp, soft)]).to(device())
        x = pixels[picks].float() / 127.5 - 1
        dx, dy = torch.randint(-2, 3, (2,)).tolist()
        x = F.pad(x, (2, 2, 2, 2), mode="replicate")[..., 2 + dy : 2 + dy + SIZE, 2 + dx : 2 + dx + SIZE]
        if torch.rand(()) < 0.3:
            x = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1) * 0.6 + x * 0.4
        x = x + 0.04 * torch.rand((), device=x.device) * torch.randn_like(x)
        with half_precision():
            out = net(x.contiguous())
        out = {name: value.float() for name, value in out.items()}
        total = sum(
            F.cross_entropy(out[n], truth[n][picks], ignore_index=-100)
            for n in ("kind", "hair", "skin", "glasses", "beard")
        )
        person = truth["face"][picks]
        spread = out["log_spread"].clamp(-4, 1)
        miss = (out["geometry"] - truth["geometry"][picks]) / spread.exp()
        return total + 2 * (0.5 * miss.square() + spread)[person].mean()

    train("reader", list(net.parameters()), step, minutes=minutes, learning_rate=2e-3, average=average)
    if rank() == 0:
        average.apply()
        _calibrate(net, pixels[calibrating], {name: value[calibrating] for name, value in truth.items()})
        save_half(net.state_dict(), path)


@torch.no_grad()
def _calibrate(net: ReaderNet, pixels: torch.Tensor, truth: dict[str, torch.Tensor]) -> None:
    """Sets each feature's weight to one over its error on decoded renders that were kept out of the training."""
    out = net(pixels.float() / 127.5 - 1)
    person = truth["face"]
    error = (out["geometry"] - truth["geometry"])[person].square().mean(0).sqrt()
    net.reliability.copy_(1 / error)
    say("error by feature: " + ", ".join(f"{n} {e:.2f}" for n, e in zip(GEOMETRY, error.tolist(), strict=True)))
