"""Checks what an IMAGE holds, and makes pictures of it.

It stands apart from `picture_files`: nothing here needs Pillow or a file.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..prefix import MeasurementError


def pictures_of(images: Tensor, name: str) -> np.ndarray:
    """Pictures uint8 [n, height, width, 3] of an IMAGE batch, float [n, height, width, channels] in 0 to 1.

    Grey pictures become coloured, transparency is dropped, values out of range are cut off.

    Args:
        name: what the artist calls these images.

    Raises:
        MeasurementError: no pictures, no pixels, an unknown number of channels, or values that are not finite.
    """
    if not isinstance(images, Tensor) or images.ndim != 4 or images.shape[-1] not in (1, 3, 4) or not images.numel():
        shape = list(images.shape) if isinstance(images, Tensor) else type(images).__name__
        raise MeasurementError(f"'{name}' holds no pictures ({shape}): connect the IMAGE output of another node.")
    pictures = np.empty((*images.shape[:3], 3), np.uint8)
    for index, image in enumerate(images):
        if not torch.isfinite(image).all():
            raise MeasurementError(
                f"Picture {index + 1} of '{name}' is damaged (values that are no numbers): draw or load it again."
            )
        pictures[index] = (image[..., :3].float() * 255).round().clamp(0, 255).cpu().numpy().astype(np.uint8)
    return pictures
