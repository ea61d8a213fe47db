"""Puts faces of the demo's world into pictures of other sizes, so that it is known where they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from ...demo.world.face import face_box
from ...demo.world.people import cast
from ...demo.world.renderer import draw, picture_of, random_picture

Box = tuple[float, float, float, float]


class Scene(NamedTuple):
    """A picture to be.

    Attributes:
        places: of portraits, left, top and side in pixels.
    """

    name: str
    width: int
    height: int
    places: tuple[tuple[int, int, int], ...]


SCENES = (
    Scene("one, 96 px", 96, 96, ((0, 0, 96),)),
    Scene("one, 128 px", 128, 128, ((16, 24, 96),)),
    Scene("one, 256 px", 256, 256, ((0, 0, 256),)),
    Scene("two, 192 by 96 px", 192, 96, ((0, 0, 96), (96, 0, 96))),
    Scene("two, 256 px", 256, 256, ((16, 80, 96), (144, 80, 96))),
    Scene("tiny, 96 px", 96, 96, ((32, 40, 32),)),
    Scene("tiny, 256 px", 256, 256, ((112, 128, 32),)),
)
"""A portrait of 32 pixels has a face of about two cells of latents by two."""


class Shown(NamedTuple):
    """A scene with people in it.

    Attributes:
        pixels: uint8 [height, width, 3].
        prompt: that names them.
        boxes: of their faces, as shares of the picture's sides.
    """

    pixels: np.ndarray
    prompt: str
    boxes: list[Box]


def shown(scene: Scene, people: Sequence[int], seed: int) -> Shown:
    """A scene with these of the cast in it, one at each place, before something without a face."""
    rng = np.random.default_rng(seed)
    behind = Image.fromarray(draw(random_picture(rng, "circle"))).resize((scene.width, scene.height))
    boxes: list[Box] = []
    for (left, top, side), index in zip(scene.places, people, strict=True):
        picture = picture_of(rng, cast()[index], index)
        assert picture.geometry is not None
        portrait = Image.fromarray(draw(picture)).resize((side, side), Image.Resampling.LANCZOS)
        behind.paste(portrait, (left, top))
        x0, y0, x1, y1 = face_box(picture.geometry, picture.jitter)
        wide, high = side / scene.width, side / scene.height
        x, y = left / scene.width, top / scene.height
        boxes.append((x + x0 * wide, y + y0 * high, x + x1 * wide, y + y1 * high))
    names = " and ".join(cast()[index].name for index in people)
    return Shown(np.asarray(behind), f"A close-up portrait of {names}", boxes)
