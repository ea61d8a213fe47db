"""Cuts faces out of pictures, square, with a margin: hair and beard reach beyond a detector's box."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

LARGEST_CROP = 1024
"""Pixels of a side; what is larger is shrunk."""


def crop(picture: np.ndarray, box: Sequence[float], margin: float | None) -> np.ndarray:
    """The square around a face.

    It is moved into the picture where it reaches over an edge, and as large as the picture's shorter side at most, so
    that nothing is ever made up around a face.

    Args:
        picture: uint8 [height, width, 3].
        box: left, top, right, bottom in pixels.
        margin: as a share of the box's longer side, added on each side; None: the whole picture as it is.

    Returns:
        uint8 [side, side, 3], or the whole picture.
    """
    if margin is None:
        return picture
    height, width = picture.shape[:2]
    left, top, right, bottom = box
    longer = max(right - left, bottom - top)
    side = int(np.clip(round(longer * (1 + 2 * margin)), 1, min(height, width)))
    x = int(np.clip(round((left + right - side) / 2), 0, width - side))
    y = int(np.clip(round((top + bottom - side) / 2), 0, height - side))
    found = picture[y : y + side, x : x + side]
    return found.copy() if side <= LARGEST_CROP else resized(found, LARGEST_CROP, LARGEST_CROP)


def resized(picture: np.ndarray, width: int, height: int) -> np.ndarray:
    """A picture in another size, uint8 [height, width, 3]."""
    if picture.shape[:2] == (height, width):
        return picture
    return np.array(Image.fromarray(picture).resize((width, height), Image.Resampling.BICUBIC))
