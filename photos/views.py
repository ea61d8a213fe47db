"""Chooses what of a photograph a step looks at: all of it as an attacker would shrink it, or a part of full size."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..finetuning.training_set import resized
from ..runs.seeds import generator

LARGE = 1.5
"""How many times wider than what the model draws a photo is from which on steps look at parts of it as well."""


class PhotoView(NamedTuple):
    """A part of a photo, in its pixels, that is brought to a width and height.

    Attributes:
        left, top, width, height: of the part.
        size: width and height that it is brought to.
    """

    left: int
    top: int
    width: int
    height: int
    size: tuple[int, int]

    def part(self, photo: Tensor) -> Tensor:
        """The part of a photo `[height, width, channels]`, in its own pixels and its own memory."""
        return photo[self.top : self.top + self.height, self.left : self.left + self.width]

    def of(self, photo: Tensor) -> Tensor:
        """What it shows of a photo `[height, width, 3]`; differentiable."""
        return self.brought(self.part(photo))

    def brought(self, part: Tensor) -> Tensor:
        """The part at the size that it is looked at; differentiable."""
        return resized(part, self.size)


def view_at(photo: Tensor, size: tuple[int, int], mask: Tensor | None, seed: int, number: int, step: int) -> PhotoView:
    """The view of a step.

    As much of the photo as has the proportions of `size`, and for photos that are much larger, in every other step, a
    part in full size; both at a random place, the part where the mask is.

    Args:
        photo: `[height, width, 3]`.
        size: width and height of what the model draws.
        mask: `[height, width, 1]`, 1 where the photo may change; None for everywhere.
        number: of the photo.
    """
    height, width = photo.shape[:2]
    scale = min(width / size[0], height / size[1])
    random = torch.rand(2, generator=generator(seed, f"view {number}", step)).tolist()
    if scale > LARGE and step % 2:
        cut = size
        left_most, top_most, right_most, bottom_most = _bounds(mask, width, height)
        left = round(left_most + random[0] * (right_most - left_most) - cut[0] / 2)
        top = round(top_most + random[1] * (bottom_most - top_most) - cut[1] / 2)
    else:
        cut = (min(width, round(size[0] * scale)), min(height, round(size[1] * scale)))
        left, top = round(random[0] * (width - cut[0])), round(random[1] * (height - cut[1]))
    left, top = min(max(left, 0), width - cut[0]), min(max(top, 0), height - cut[1])
    return PhotoView(left, top, cut[0], cut[1], size)


def _bounds(mask: Tensor | None, width: int, height: int) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of what may change."""
    if mask is None:
        return 0, 0, width, height
    rows, columns = (torch.nonzero(mask[..., 0].amax(dim)).flatten() for dim in (1, 0))
    return int(columns[0]), int(rows[0]), int(columns[-1]), int(rows[-1])
