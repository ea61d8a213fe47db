"""Holds what is learned from: latents of pictures, each with a caption."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..engines.denoiser import Denoiser
from ..engines.micro_batches import MicroBatches
from ..prefix.errors import TrainingError

ENCODED_AT_ONCE = 8
"""Pictures that the VAE is given together."""


@dataclass(frozen=True)
class TrainingSet:
    """What is learned from.

    Attributes:
        latents: `[n, *latent_shape]` float32 on the CPU.
        captions: n texts.

    Raises:
        TrainingError: there are none, or not as many captions as pictures.
    """

    latents: Tensor
    captions: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.captions or len(self.captions) != len(self.latents):
            raise TrainingError(
                f"There are {len(self.latents)} pictures and {len(self.captions)} captions: give a caption for each"
                " picture, and at least one picture."
            )

    @property
    def digest(self) -> str:
        """Of every value."""
        said = hashlib.sha256(self.latents.contiguous().numpy().tobytes())
        said.update("\0".join(self.captions).encode())
        return said.hexdigest()[:32]


def training_set_of(
    denoiser: Denoiser, pictures: Sequence[Tensor], captions: Sequence[str], check: Callable[[], None] = lambda: None
) -> TrainingSet:
    """A training set of pictures `[height, width, 3]` in 0 to 1 of any sizes, as whoever fine-tunes a model takes them.

    Each is cut to the proportions of what the model draws, around its middle, and brought to that size.

    Raises:
        TrainingError: no pictures, or not as many captions.
    """
    # Not all at once: a VAE that memory lacks for is halved only after it was tried.
    size = min(ENCODED_AT_ONCE, len(pictures)) or 1
    micro_batches = MicroBatches(denoiser, size, check)
    fitted = [fitted_to(picture, denoiser.picture_size) for picture in pictures]
    latents: list[Tensor] = []
    if fitted:
        with denoiser.gradients(size, pictures=True), torch.no_grad():
            latents = micro_batches.work(lambda some: denoiser.encode_pictures(torch.stack(list(some))), fitted)
    whole = torch.cat(latents) if latents else torch.zeros(0)
    return TrainingSet(whole.detach(), tuple(captions))


def fitted_to(picture: Tensor, size: tuple[int, int]) -> Tensor:
    """The middle of a picture `[height, width, 3]` in the proportions of a size, brought to that width and height."""
    width, height = size
    have_height, have_width = picture.shape[:2]
    scale = max(width / have_width, height / have_height)
    cut_width, cut_height = min(have_width, round(width / scale)), min(have_height, round(height / scale))
    left, top = (have_width - cut_width) // 2, (have_height - cut_height) // 2
    return resized(picture[top : top + cut_height, left : left + cut_width], size)


def resized(picture: Tensor, size: tuple[int, int]) -> Tensor:
    """A picture `[height, width, 3]` of another width and height; differentiable, and smooth where it shrinks."""
    if (picture.shape[1], picture.shape[0]) == size:
        return picture
    channels_first = picture.permute(2, 0, 1)[None]
    made = torch.nn.functional.interpolate(channels_first, size[::-1], mode="bilinear", antialias=True)
    return made[0].permute(1, 2, 0)
