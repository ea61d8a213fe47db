"""Picks small examples: the same prompts and noises by each column."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..picture_sets import PictureSet
from ..results import PLAIN, Example

EXAMPLES = (8, 4)
"""How many people, and how many other prompts, are shown at most."""

THUMBNAIL = 192
"""Pixels of a thumbnail's longer side, at most."""


def examples_of(picture_sets: Mapping[str, PictureSet], subjects: int, most: int) -> list[Example]:
    """The first picture of people, or prompts, from everywhere in the list, by each column."""
    if not picture_sets:
        return []
    plain = picture_sets[PLAIN]
    return [
        Example(
            plain.requests[index].prompt,
            tuple(_thumbnail(picture_set.pictures([index])[0]) for picture_set in picture_sets.values()),
        )
        for index in (subject * (len(plain.requests) // subjects) for subject in _spread(subjects, most))
    ]


def _spread(count: int, most: int) -> list[int]:
    return [index * count // most for index in range(most)] if count > most else list(range(count))


def _thumbnail(picture: np.ndarray) -> np.ndarray:
    from PIL import Image

    image = Image.fromarray(picture)
    image.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)
    return np.asarray(image)
