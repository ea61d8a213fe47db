"""Draws the photographs of the demo's people that describing is tried on: of each two, in other places and poses."""

from __future__ import annotations

import numpy as np

from .people import cast
from .renderer import draw, picture_of

SEED, VIEWS = 61, 2


def photographs() -> list[tuple[str, np.ndarray]]:
    """Names like those of files, and pictures uint8 [SIZE, SIZE, 3], of the people that prefixes are learned on."""
    rng = np.random.default_rng(SEED)
    return [
        (f"{person.name} {view + 1}", draw(picture_of(rng, person, number)))
        for number, person in enumerate(cast())
        if not person.unseen
        for view in range(VIEWS)
    ]
