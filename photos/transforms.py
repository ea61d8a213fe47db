"""Alters pictures as sites, programs and attackers do: with a gradient while protecting, without one to measure."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import Tensor
from torch.nn.functional import conv2d, interpolate, pad

from ..engines.denoiser import Denoiser
from ..finetuning.training_set import fitted_to
from ..runs.seeds import generator
from .settings import BLUR, HALF, JPEG, NO_PURIFICATION, NOISE, NOTHING, ROUND_TRIP

JPEG_QUALITY = 75
NOISE_LEVELS = 8.0
"""Standard deviation of the noise that an attacker adds before shrinking and enlarging."""

LEFT_ALONE = 0.3
"""Share of steps in which nothing is done to the picture, so that the plain file is protected as well."""


def altered(picture: Tensor, withstand: str, seed: int, number: int, step: int) -> Tensor:
    """A picture `[height, width, 3]` in 0 to 1 after what it is to withstand, drawn for each step; differentiable.

    What JPEG does is computed as it is, and the gradient passes it by (expectation over transformations, Athalye et
    al., arXiv 1707.07397).
    """
    if withstand == NOTHING:
        return picture
    random = torch.rand(2, generator=generator(seed, f"transform {number}", step)).tolist()
    which = (random[0] - LEFT_ALONE) / (1 - LEFT_ALONE)
    if which < 0:
        return picture
    if which < 0.4:
        levels = (picture.detach().clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
        saved = torch.from_numpy(jpeg(levels, 60 + round(35 * random[1]))).to(picture) / 255
        return picture + (saved - picture).detach()
    if which < 0.8:
        return _shrunk_and_back(picture, 0.5 + 0.5 * random[1])
    return _blurred(picture, 0.4 + 0.8 * random[1])


def jpeg(picture: np.ndarray, quality: int = JPEG_QUALITY) -> np.ndarray:
    """A picture uint8 `[height, width, 3]` as JPEG gives it back."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file).convert("RGB")).copy()


def purified(picture: np.ndarray, how: str, denoiser: Denoiser, seed: int = 0) -> np.ndarray:
    """A picture uint8 `[height, width, 3]` after one of `PURIFICATIONS`, which an attacker may try first.

    The round trip through the VAE gives back the size that the model draws.
    """
    if how == ROUND_TRIP:
        fitted = fitted_to(torch.from_numpy(picture.copy()).float() / 255, denoiser.picture_size)
        with denoiser.gradients(1, pictures=True), torch.no_grad():
            latents = denoiser.encode_pictures(fitted[None])
        return (denoiser.decode(latents)[0].float().cpu().clamp(0, 1) * 255).round().to(torch.uint8).numpy()
    if how == NOISE:
        noise = torch.randn(picture.shape, generator=generator(seed, "purification")).numpy()
        return _half_and_back((picture + NOISE_LEVELS * noise).round().clip(0, 255).astype(np.uint8))
    return _PLAIN[how](picture)


def _half_and_back(picture: np.ndarray) -> np.ndarray:
    image = Image.fromarray(picture)
    half = image.resize((max(1, image.width // 2), max(1, image.height // 2)), Image.Resampling.LANCZOS)
    return np.asarray(half.resize(image.size, Image.Resampling.LANCZOS))


def _blur(picture: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(picture).filter(ImageFilter.GaussianBlur(1)))


_PLAIN: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    NO_PURIFICATION: lambda picture: picture,
    JPEG: jpeg,
    HALF: _half_and_back,
    BLUR: _blur,
}


def _shrunk_and_back(picture: Tensor, scale: float) -> Tensor:
    height, width = picture.shape[:2]
    first = picture.permute(2, 0, 1)[None]
    small = (max(1, round(height * scale)), max(1, round(width * scale)))
    shrunk = interpolate(first, small, mode="bilinear", antialias=True)
    back = interpolate(shrunk, (height, width), mode="bicubic", antialias=True)
    return back[0].permute(1, 2, 0).clamp(0, 1)


def _blurred(picture: Tensor, sigma: float) -> Tensor:
    offsets = torch.arange(-3, 4, dtype=picture.dtype)
    kernel = torch.exp(-offsets.square() / (2 * sigma**2))
    kernel = kernel / kernel.sum()
    first = pad(picture.permute(2, 0, 1)[:, None], (3, 3, 3, 3), mode="replicate")
    across = conv2d(first, kernel.view(1, 1, 1, 7))
    return conv2d(across, kernel.view(1, 1, 7, 1))[:, 0].permute(1, 2, 0)
