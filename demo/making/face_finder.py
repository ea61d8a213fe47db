"""Trains the face finder on renders of strangers, half of which went through the autoencoder with a little noise."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from comfy.taesd.taesd import TAESD

from ..loader import load_weights
from ..measuring.face_finder import FaceFinderNet
from ..sizes import LATENT_CHANNELS
from ..world.face import face_box
from ..world.renderer import SIZE
from .common import Average, half_precision, save_half, say, train
from .data import render, training_pictures
from .reader import LATENT_NOISE

RENDERED = 3000
CALIBRATION = 300
BATCH = 64


def train_face_finder(path: Path, minutes: float, rendered: int = RENDERED) -> None:
    """Learns boxes by regression, on shifted and noisy renders; says how far off they are on some kept out."""
    torch.manual_seed(0)
    strangers = [p for p in training_pictures() if p.kind == "person" and p.person is None][:rendered]
    pixels = torch.from_numpy(render(strangers).pixels).permute(0, 3, 1, 2)
    boxes = torch.tensor([face_box(p.geometry, p.jitter) for p in strangers])
    pixels = torch.cat([pixels, _through_the_autoencoder(pixels, path.parent)])
    boxes = torch.cat([boxes, boxes])
    left_out = min(CALIBRATION, rendered // 4)
    kept = len(pixels) - left_out
    pool = torch.cat([torch.arange(rendered - left_out), torch.arange(rendered, kept)])
    net = FaceFinderNet()
    average = Average(net, 0.998)

    def step(_: int) -> torch.Tensor:
        picks = pool[torch.randint(len(pool), (BATCH,))]
        x, wanted = pixels[picks].float() / 127.5 - 1, boxes[picks]
        if torch.rand(()) < 0.5:
            x, wanted = x.flip(-1), torch.stack([1 - wanted[:, 2], wanted[:, 1], 1 - wanted[:, 0], wanted[:, 3]], 1)
        dx, dy = torch.randint(-6, 7, (2,)).tolist()
        x = F.pad(x, (6, 6, 6, 6), mode="replicate")[..., 6 + dy : 6 + dy + SIZE, 6 + dx : 6 + dx + SIZE]
        x = x + 0.05 * torch.rand(()) * torch.randn_like(x)
        wanted = (wanted - torch.tensor([dx, dy, dx, dy]) / SIZE).clamp(0, 1)
        return 100 * F.smooth_l1_loss(net(x.contiguous()), wanted, beta=0.02)

    train("face finder", list(net.parameters()), step, minutes=minutes, learning_rate=2e-3, average=average)
    average.apply()
    with torch.no_grad():
        off = (net(pixels[kept:].float() / 127.5 - 1) - boxes[kept:]).abs().mean() * SIZE
    say(f"edges of boxes are {float(off):.2f} pixels off")
    save_half(net.state_dict(), path)


@torch.no_grad()
def _through_the_autoencoder(pixels: torch.Tensor, weights: Path) -> torch.Tensor:
    net = TAESD(latent_channels=LATENT_CHANNELS)
    net.load_state_dict(load_weights("autoencoder", weights))
    out = []
    with half_precision():
        for some in pixels.split(100):
            z = net.encode(some.float() / 127.5 - 1)
            z = z + LATENT_NOISE * torch.rand((len(z), 1, 1, 1)) * torch.randn_like(z)
            out.append(((net.decode(z).float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).contiguous())
    return torch.cat(out)
