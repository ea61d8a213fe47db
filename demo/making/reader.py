"""Trains the reader on renders of strangers and things: it never sees the cast, nor a generated picture."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F

from ..loader import load_weights
from ..people import HAIR, SKIN
from ..reader import ReaderNet
from .common import Average, pixels_to_tensor, save_half, train
from .data import Rendered

BATCH = 128


def _truth(rendered: Rendered, keep: list[int]) -> dict[str, torch.Tensor]:
    rows = [rendered.pictures[i] for i in keep]
    looks = [
        (HAIR.index(p.looks.hair), SKIN.index(p.looks.skin), int(p.looks.glasses), int(p.looks.beard))
        if p.looks
        else (-100,) * 4
        for p in rows
    ]
    truth = dict(zip(("hair", "skin", "glasses", "beard"), torch.tensor(looks).T, strict=True))
    truth["face"] = torch.tensor([int(p.kind == "person") for p in rows])
    truth["geometry"] = torch.tensor([p.geometry or (0.0,) * 20 for p in rows])
    return truth


def train_reader(rendered: Rendered, path: Path, minutes: float) -> None:
    """Learns looks by classes and geometry by regression, on slightly shifted, blurred and noisy renders."""
    torch.manual_seed(0)
    net = ReaderNet()
    if path.exists():
        net.load_state_dict(load_weights("reader"))
        print("  going on from the saved weights")
    keep = [i for i, p in enumerate(rendered.pictures) if p.person is None]
    truth = _truth(rendered, keep)
    pixels = torch.from_numpy(rendered.pixels[keep]).permute(0, 3, 1, 2).contiguous()
    average = Average(net, 0.998)
    print(f"  reader: {sum(p.numel() for p in net.parameters()) / 1e6:.2f} M parameters")

    def step(_: int) -> torch.Tensor:
        picks = torch.randint(len(keep), (BATCH,))
        x = pixels[picks].float() / 127.5 - 1
        dx, dy = torch.randint(-2, 3, (2,)).tolist()
        x = F.pad(x, (2, 2, 2, 2), mode="replicate")[..., 2 + dy : 66 + dy, 2 + dx : 66 + dx]
        if torch.rand(()) < 0.4:
            x = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1) * 0.6 + x * 0.4
        x = x + 0.04 * torch.rand(()) * torch.randn_like(x)
        with torch.autocast("cpu", torch.bfloat16):
            out = net(x.contiguous())
        out = {name: value.float() for name, value in out.items()}
        total = sum(
            F.cross_entropy(out[n], truth[n][picks], ignore_index=-100)
            for n in ("face", "hair", "skin", "glasses", "beard")
        )
        person = truth["face"][picks].bool()
        spread = out["log_spread"].clamp(-4, 1)
        miss = (out["geometry"] - truth["geometry"][picks]) / spread.exp()
        nll = (0.5 * miss.square() + spread)[person].mean()
        return total + 2 * nll

    train("reader", list(net.parameters()), step, minutes=minutes, learning_rate=2e-3, average=average)
    average.apply()
    save_half(net.state_dict(), path)
    with torch.no_grad():
        out = net(pixels_to_tensor(rendered.pixels[keep[:2000]]))
        person = truth["face"][:2000].bool()
        error = (out["geometry"] - truth["geometry"][:2000])[person].abs().mean(0)
        print("  geometry error by feature:", " ".join(f"{e:.2f}" for e in error.tolist()), f"mean {error.mean():.3f}")
