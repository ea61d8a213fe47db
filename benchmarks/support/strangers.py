"""Invents strangers of the demo's world: photos to learn them from, and how a recognizer knows them among others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...demo.measuring.recognizer import DemoRecognizer
from ...demo.world.people import STRANGERS_PER_PERSON, Looks, all_looks, random_geometry
from ...demo.world.renderer import draw, portrait
from ...faces.gallery import STRANGER, Gallery
from ...photos.attack import PhotoSubject, person_of

PHOTOS = 4
FIRST_PERSON = 900


@dataclass(frozen=True)
class Stranger:
    """Somebody whom the model does not know.

    Attributes:
        photos: to learn from, uint8 `[height, width, 3]`.
        person: other photos of them, among those of `STRANGERS_PER_PERSON` others of the same looks.
        looks: what a description names.
    """

    photos: list[np.ndarray]
    person: PhotoSubject
    looks: Looks


def stranger(recognizer: DemoRecognizer, number: int) -> Stranger:
    """The stranger of this number, always the same."""
    rng = np.random.default_rng(FIRST_PERSON + number)
    looks = all_looks()[rng.integers(len(all_looks()))]
    geometry = tuple(map(float, random_geometry(rng, 1)[0]))
    photos, known = ([draw(portrait(rng, looks, geometry)) for _ in range(PHOTOS)] for _ in range(2))
    others = [draw(portrait(rng, looks, tuple(map(float, g)))) for g in random_geometry(rng, STRANGERS_PER_PERSON)]
    embeddings = np.stack([face.embedding for (face, *_) in recognizer.find(np.stack(others))])
    strangers = Gallery(embeddings, np.full(len(embeddings), STRANGER), "strangers of the same looks")
    return Stranger(photos, person_of(recognizer, known, strangers), looks)
