"""Recognizes faces of the demo's world: the reader, which learned from renders alone, never from drawn pictures."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch

from ..loader import WEIGHTS, load_weights
from ..world.people import GEOMETRY, HAIR, SKIN, Looks
from ..world.renderer import KINDS, SIZE

LOOKS = {"hair": HAIR, "skin": SKIN, "glasses": (False, True), "beard": (False, True)}
LOOKS_WEIGHT = 2.0

SURE = 0.9
"""Least probability of a person at which a face is found. What is of no kind, such as a plain grey, is given to some
kind all the same, but hardly with so much; faces that are drawn have more than 0.99."""


class ReaderNet(torch.nn.Module):
    """Pixels [n, 3, 96, 96] in [-1, 1] to: what kind of picture, looks, geometry with its spread."""

    def __init__(self, width: int = 48) -> None:
        super().__init__()
        self.outputs = {
            "kind": len(KINDS),
            **{k: len(v) for k, v in LOOKS.items()},
            "geometry": len(GEOMETRY),
            "log_spread": len(GEOMETRY),
        }
        layers: list[torch.nn.Module] = [torch.nn.Conv2d(3, 16, 5, 2, 2)]
        for before, after in ((16, width), (width, width), (width, 2 * width), (2 * width, 2 * width)):
            stride = 1 if before == after else 2
            layers += [torch.nn.GroupNorm(8, before), torch.nn.SiLU(), torch.nn.Conv2d(before, after, 3, stride, 1)]
        layers += [
            torch.nn.GroupNorm(8, 2 * width),
            torch.nn.SiLU(),
            torch.nn.Conv2d(2 * width, 12, 1),
            torch.nn.Flatten(),
            torch.nn.SiLU(),
            torch.nn.Linear(12 * (SIZE // 8) ** 2, 160),
            torch.nn.SiLU(),
            torch.nn.Linear(160, sum(self.outputs.values())),
        ]
        self.layers = torch.nn.Sequential(*layers)
        self.register_buffer("reliability", torch.ones(len(GEOMETRY)))

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Logits by name; `geometry` and `log_spread` are [n, len(GEOMETRY)]."""
        return dict(zip(self.outputs, self.layers(x).split(list(self.outputs.values()), -1), strict=True))


@dataclass(frozen=True)
class Reading:
    """What the reader saw in n pictures.

    face: whether one is found for `SURE`, bool [n]; embeddings: to compare by distance, float32 [n, d]; looks: those of
    each picture; kinds: what each shows most likely, one of `KINDS`.
    """

    face: np.ndarray
    embeddings: np.ndarray
    looks: tuple[Looks, ...]
    kinds: tuple[str, ...] = ()


def load_reader(folder: Path = WEIGHTS) -> ReaderNet:
    """The trained reader, with the committed weights if no folder is named."""
    net = ReaderNet()
    net.load_state_dict(load_weights("reader", folder))
    return net.eval()


@cache
def committed_reader() -> ReaderNet:
    """The reader with the committed weights, one for the whole process: what was made with it once serves again."""
    return load_reader()


@torch.no_grad()
def read(net: ReaderNet, pixels: np.ndarray) -> Reading:
    """Reads uint8 pictures [n, 96, 96, 3].

    The embedding is the geometry, each feature divided by the error with which it is read (as face recognition whitens
    its features by their variation within a person), next to the looks' probabilities: whoever tries to recognize a
    person may use both.
    """
    faces, kinds, embeddings, looks = [], [], [], []
    for start in range(0, len(pixels), 512):
        x = torch.from_numpy(np.ascontiguousarray(pixels[start : start + 512])).permute(0, 3, 1, 2).float() / 127.5 - 1
        out = net(x.contiguous())
        faces.append((out["kind"].softmax(-1)[:, KINDS.index("person")] >= SURE).numpy())
        kinds += [KINDS[i] for i in out["kind"].argmax(-1).tolist()]
        classes = {name: out[name].softmax(-1) for name in LOOKS}
        seen = [LOOKS_WEIGHT * p for p in classes.values()]
        embeddings.append(torch.cat([out["geometry"] * net.reliability, *seen], -1).numpy())
        chosen = {name: [LOOKS[name][i] for i in p.argmax(-1).tolist()] for name, p in classes.items()}
        looks += [Looks(*row) for row in zip(*chosen.values(), strict=True)]
    return Reading(np.concatenate(faces), np.concatenate(embeddings), tuple(looks), tuple(kinds))
