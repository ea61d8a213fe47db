"""Renders the pictures that the demo's networks learn from, once, and keeps them in the build folder."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from ..world.people import all_looks, cast, random_geometry
from ..world.renderer import (
    KINDS,
    LANDMARKS,
    MASCOTS,
    Picture,
    draw_all,
    picture_of,
    portrait,
    random_picture,
    restyled,
)
from .common import device, whole

PER_PERSON = 160
STRANGERS = 16000
PER_THING = 300
PER_NAMED_THING = 160
RESTYLED = 0.15


@dataclass(frozen=True, eq=False)
class Rendered:
    """Pictures and what they show: `pixels` is uint8 [n, 96, 96, 3]."""

    pictures: tuple[Picture, ...]
    pixels: np.ndarray

    @cached_property
    def stored(self) -> torch.Tensor:
        """The pixels where the networks are trained; in main memory it is the file that is read."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            return torch.from_numpy(self.pixels).to(device())


def render(pictures: list[Picture]) -> Rendered:
    """Draws all pictures on all cores."""
    return Rendered(tuple(pictures), draw_all(pictures))


def picture_of_one(rng: np.random.Generator, index: int) -> Picture:
    """A picture of one of the cast; now and then a trained person has other looks than usual."""
    person = cast()[index]
    picture = picture_of(rng, person, index)
    return restyled(rng, picture) if not person.unseen and rng.random() < RESTYLED else picture


def training_pictures(seed: int = 1) -> list[Picture]:
    """The cast, strangers of every combination of looks, and things, in random order."""
    rng = np.random.default_rng(seed)
    pictures = [picture_of_one(rng, i) for i in range(len(cast())) for _ in range(PER_PERSON)]
    looks = all_looks()
    for i, geometry in enumerate(random_geometry(rng, STRANGERS)):
        pictures.append(portrait(rng, looks[i % len(looks)], tuple(map(float, geometry))))
    for kind in KINDS[1:]:
        count = PER_NAMED_THING if kind in LANDMARKS or kind in MASCOTS else PER_THING
        pictures += [random_picture(rng, kind) for _ in range(count)]
    return [pictures[i] for i in rng.permutation(len(pictures))]


def load_or_render(folder: Path, share: float | None = None) -> Rendered:
    """The training pictures; the pixels are rendered at the first call and read from `folder` later.

    Args:
        share: how many of the pictures there are to be, the first ones; None takes what there is, or all.
    """
    pictures = training_pictures()
    count = None if share is None else round(share * len(pictures))
    path = folder / "pixels.npy"
    if path.exists():
        pixels = np.load(path, mmap_mode="r")
        if count in (None, len(pixels)):
            return Rendered(tuple(pictures[: len(pixels)]), pixels)
    rendered = render(pictures[:count])
    forget_computed(folder)
    with whole(path) as part:
        np.save(part, rendered.pixels)
    return rendered


def forget_computed(folder: Path) -> None:
    """Removes what was computed with pictures or weights that are no more."""
    for name in ("latents.pt", "decoded.pt"):
        (folder / name).unlink(missing_ok=True)
