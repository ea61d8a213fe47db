"""Finds where a face is in pictures of the demo's world, by a small network that learned it from renders alone."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch

from ...faces.recognizer import FoundFace
from ..loader import WEIGHTS, load_weights
from ..world.renderer import SIZE
from .reader import committed_reader, read
from .recognizer import brought_to_size


class FaceFinderNet(torch.nn.Module):
    """Pixels [n, 3, 96, 96] in [-1, 1] to boxes [n, 4]: left, top, right, bottom as shares of the picture's side."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[torch.nn.Module] = []
        for before, after in ((3, 12), (12, 16), (16, 24), (24, 24)):
            layers += [torch.nn.Conv2d(before, after, 3, 2, 1), torch.nn.GroupNorm(4, after), torch.nn.SiLU()]
        layers += [torch.nn.Flatten(), torch.nn.Linear(24 * (SIZE // 16) ** 2, 32), torch.nn.SiLU()]
        self.layers = torch.nn.Sequential(*layers, torch.nn.Linear(32, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """See the class."""
        return 0.5 + self.layers(x)


class DemoFaceFinder:
    """A `Finder` for the demo models' pictures: the reader tells whether there is a face, this network where."""

    def __init__(self, net: FaceFinderNet | None = None) -> None:
        self._net = net or _committed()

    @torch.no_grad()
    def find(self, pictures: np.ndarray) -> list[Sequence[FoundFace]]:
        """See `Finder`. Pictures of another size are brought to that of the reader's."""
        height, width = pictures.shape[1:3]
        pixels = brought_to_size(pictures)
        x = torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2).float() / 127.5 - 1
        boxes = torch.cat([self._net(some.contiguous()) for some in x.split(256)]).clamp(0, 1)
        boxes = boxes * torch.tensor([width, height, width, height])
        found = read(committed_reader(), pixels).face
        return [
            (FoundFace(tuple(box), 1.0),) if is_face and box[0] < box[2] and box[1] < box[3] else ()
            for is_face, box in zip(found, boxes.tolist(), strict=True)
        ]


@cache
def _committed(folder: Path = WEIGHTS) -> FaceFinderNet:
    net = FaceFinderNet()
    net.load_state_dict(load_weights("face_finder", folder))
    return net.eval()
