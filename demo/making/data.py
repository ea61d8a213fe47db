"""The pictures that the demo's networks learn from, rendered once and kept in the build folder."""

from __future__ import annotations

from dataclasses import dataclass
from multiprocessing import Pool
from pathlib import Path

import numpy as np

from ..people import all_looks, cast, cast_looks, random_geometry
from ..renderer import KINDS, Picture, draw, picture_of, portrait, random_picture

PER_PERSON = 160
STRANGERS = 15000
PER_THING = 700


@dataclass(frozen=True)
class Rendered:
    """Pictures and what they show: `pixels` is uint8 [n, 64, 64, 3]."""

    pictures: tuple[Picture, ...]
    pixels: np.ndarray


def render(pictures: list[Picture]) -> Rendered:
    """Draws all pictures on all cores."""
    with Pool() as pool:
        pixels = np.stack(pool.map(draw, pictures, chunksize=64))
    return Rendered(tuple(pictures), pixels)


def training_pictures(seed: int = 1) -> list[Picture]:
    """The cast, strangers (half of them with looks that the cast has) and things, in random order."""
    rng = np.random.default_rng(seed)
    pictures = [picture_of(rng, person, i) for i, person in enumerate(cast()) for _ in range(PER_PERSON)]
    shared, everything = cast_looks(), all_looks()
    for i, geometry in enumerate(random_geometry(rng, STRANGERS)):
        pool = shared if i % 2 else everything
        pictures.append(portrait(rng, pool[rng.integers(len(pool))], tuple(map(float, geometry))))
    pictures += [random_picture(rng, kind) for kind in KINDS[1:] for _ in range(PER_THING)]
    return [pictures[i] for i in rng.permutation(len(pictures))]


def load_or_render(folder: Path) -> Rendered:
    """The training pictures; the pixels are rendered at the first call and read from `folder` later."""
    pictures = training_pictures()
    path = folder / "pixels.npy"
    if path.exists():
        pixels = np.load(path, mmap_mode="r")
        if len(pixels) == len(pictures):
            return Rendered(tuple(pictures), pixels)
    rendered = render(pictures)
    folder.mkdir(parents=True, exist_ok=True)
    np.save(path, rendered.pixels)
    return rendered
