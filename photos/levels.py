"""Keeps changed photographs within their budget of 8-bit levels, and rounds them as a file does."""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from torch import Tensor

from ..runs.seeds import generator


def picture_digest(picture: np.ndarray) -> str:
    """Of a picture's or a mask's shape and every value."""
    return hashlib.sha256(repr(picture.shape).encode() + np.ascontiguousarray(picture).tobytes()).hexdigest()[:32]


def levels_of(photo: np.ndarray) -> Tensor:
    """A photo uint8 `[height, width, 3]` as float levels 0 to 255."""
    return torch.tensor(photo, dtype=torch.float32)


def random_start(photo: Tensor, budget: int, seed: int, number: int) -> Tensor:
    """A change of random size within the budget: methods that look at the photo itself have no gradient at none."""
    random = torch.rand(photo.shape, generator=generator(seed, "photo start", number))
    return (2 * random - 1) * budget


def random_signs(photo: Tensor, budget: int, seed: int, number: int) -> Tensor:
    """A change by the whole budget up or down, at random: noise of the same size, for comparison."""
    random = torch.rand(photo.shape, generator=generator(seed, "photo signs", number))
    return torch.where(random < 0.5, -float(budget), float(budget))


def changed(photo: Tensor, change: Tensor) -> Tensor:
    """The changed photo in levels 0 to 255, rounded as its file is; the gradient passes the rounding by."""
    moved = (photo + change).clamp(0, 255)
    return moved + (moved.round() - moved).detach()


def file_of(photo: Tensor, change: Tensor) -> np.ndarray:
    """The changed photo as it is written: uint8 `[height, width, 3]`."""
    return changed(photo, change).round().to(torch.uint8).numpy()


def largest_change(before: np.ndarray, after: np.ndarray) -> int:
    """By how many levels the most changed colour differs."""
    return int(np.abs(after.astype(np.int16) - before.astype(np.int16)).max())


def psnr(before: np.ndarray, after: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB; infinite for equal pictures."""
    error = float(np.mean((after.astype(np.float64) - before.astype(np.float64)) ** 2))
    return float("inf") if error == 0 else 10 * float(np.log10(255**2 / error))
