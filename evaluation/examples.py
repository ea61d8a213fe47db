"""Without this module an evaluation could not be looked at: the same prompts and noises by each column, small."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .album import Album
from .results import PLAIN, Example

EXAMPLES = (8, 4)
"""How many people, and how many other prompts, are shown at most."""

THUMBNAIL = 192
"""Pixels of a thumbnail's longer side, at most."""


def examples_of(albums: Mapping[str, Album], subjects: int, most: int) -> list[Example]:
    """The first picture of people, or prompts, from everywhere in the list, by each column."""
    if not albums:
        return []
    plain = albums[PLAIN]
    return [
        Example(
            plain.shots[index].prompt,
            tuple(_thumbnail(album.pictures([index])[0]) for album in albums.values()),
        )
        for index in (subject * (len(plain.shots) // subjects) for subject in _spread(subjects, most))
    ]


def _spread(count: int, most: int) -> list[int]:
    return [index * count // most for index in range(most)] if count > most else list(range(count))


def _thumbnail(picture: np.ndarray) -> np.ndarray:
    from PIL import Image

    image = Image.fromarray(picture)
    image.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)
    return np.asarray(image)
