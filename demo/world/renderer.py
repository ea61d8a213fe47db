"""Draws the demo's world from known parameters: people, mascots, shapes, objects, scenes and named places.

Everything a picture shows is in its `Picture` value, so whatever reads a picture can be checked against the truth.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from multiprocessing import Pool

import numpy as np
from PIL import Image

from .drawing import SIZE
from .face import draw_face
from .landmarks import LANDMARKS, draw_landmark
from .mascots import MASCOTS, draw_mascot
from .people import HAIR, SKIN, Looks, Person, random_geometry
from .scenery import COLOURS, PLACES, SCENES, background, scene
from .things import OBJECTS, SHAPES, draw_object, draw_shape

__all__ = ["COLOURS", "KINDS", "LANDMARKS", "MASCOTS", "OBJECTS", "PLACES", "SCENES", "SHAPES", "SIZE", "Picture"]

KINDS = ("person", *SHAPES, *OBJECTS, *SCENES, *LANDMARKS, *MASCOTS)
"""What a picture can be of. A named place or a mascot is a kind of its own."""


@dataclass(frozen=True)
class Picture:
    """All that is needed to draw one picture. `geometry` and `looks` are set for persons only."""

    kind: str
    place: str
    colour: str
    looks: Looks | None = None
    geometry: tuple[float, ...] = ()
    person: int | None = None
    jitter: tuple[float, ...] = field(default=(0.0, 0.0, 0.0, 0.0, 0.0, 0.0))


def random_jitter(rng: np.random.Generator) -> tuple[float, ...]:
    """What changes from picture to picture of the same thing: shift x, y, size, tilt, light, tint; each in [-1, 1]."""
    return tuple(map(float, rng.uniform(-1, 1, 6)))


def random_looks(rng: np.random.Generator) -> Looks:
    """Looks drawn evenly from all that can be drawn."""
    return Looks(str(rng.choice(HAIR)), str(rng.choice(SKIN)), bool(rng.random() < 0.5), bool(rng.random() < 0.5))


def random_picture(rng: np.random.Generator, kind: str) -> Picture:
    """A picture of `kind` with everything else drawn at random (a person is a stranger)."""
    picture = Picture(kind, str(rng.choice(list(PLACES))), str(rng.choice(list(COLOURS))), jitter=random_jitter(rng))
    if kind != "person":
        return picture
    return replace(picture, looks=random_looks(rng), geometry=tuple(map(float, random_geometry(rng, 1)[0])))


def portrait(rng: np.random.Generator, looks: Looks, geometry: tuple[float, ...], person: int | None = None) -> Picture:
    """A picture of one face in a random place, shirt and pose."""
    return replace(random_picture(rng, "circle"), kind="person", looks=looks, geometry=geometry, person=person)


def picture_of(rng: np.random.Generator, person: Person, index: int) -> Picture:
    """A picture of one of the cast, `index` being their place in it."""
    return portrait(rng, person.looks, person.geometry, index)


def restyled(rng: np.random.Generator, picture: Picture) -> Picture:
    """The same face with one to three of its looks changed, as somebody may dye their hair or take off glasses."""
    assert picture.looks is not None
    looks = vars(random_looks(rng))
    changed = rng.permutation(len(looks))[: int(rng.integers(1, 4))]
    return replace(picture, looks=replace(picture.looks, **{n: looks[n] for i, n in enumerate(looks) if i in changed}))


def draw(picture: Picture) -> np.ndarray:
    """Draws a picture: uint8 [96, 96, 3]. The same value gives the same pixels."""
    image = _on_canvas(picture)
    light = 1.0 + 0.06 * picture.jitter[4]
    pixels = np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BOX), dtype=np.float32) * light
    return np.clip(pixels, 0, 255).astype(np.uint8)


def _on_canvas(picture: Picture) -> Image.Image:
    kind, rgb, jitter = picture.kind, COLOURS[picture.colour], picture.jitter
    if kind in SCENES:
        return scene(kind, rgb, jitter)
    if kind in LANDMARKS:
        return draw_landmark(kind, jitter)
    image = background(picture.place, jitter)
    if picture.looks is not None:
        draw_face(image, picture.looks, picture.geometry, rgb, jitter)
    elif kind in MASCOTS:
        draw_mascot(image, kind, jitter)
    elif kind in SHAPES:
        draw_shape(image, kind, rgb, jitter)
    else:
        draw_object(image, kind, rgb, PLACES[picture.place][0], jitter)
    return image


def draw_all(pictures: Sequence[Picture]) -> np.ndarray:
    """Draws pictures on all cores: uint8 [n, SIZE, SIZE, 3]."""
    # A worker that ended in a command's own way when it is asked to (`tools.command`) could wait for ever.
    with Pool(initializer=signal.signal, initargs=(signal.SIGTERM, signal.SIG_DFL)) as pool:
        drawn = pool.map(draw, pictures, chunksize=64)
        pool.close()
        pool.join()
    return np.stack(drawn)
