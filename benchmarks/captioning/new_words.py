"""Reads two more things off the demo's faces, for which the demo model has no words: how wide a face is, how long its
fringe.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from ...captions.attributes import Answer, Attribute
from ...captions.readers import Probabilities
from ...demo.measuring.looks_reader import DemoLooksReader
from ...demo.measuring.reader import committed_reader
from ...demo.measuring.recognizer import brought_to_size
from ...demo.world.people import GEOMETRY

FEATURES = {"face": ("face_width", ("narrow", "wide")), "fringe": ("fringe", ("short", "long"))}
"""What of a face's geometry has new words, and which: for less than the middle, and for more."""

UNKNOWN = ("narrow", "wide", "short", "long", "fringe")
"""Words of these that the demo model's text encoder was never told of; "face" it knows."""

NEW_WORDS = tuple(
    Attribute(name, tuple(Answer(word, word, f"a {word} {name}") for word in words), noun=name, article=True)
    for name, (_, words) in FEATURES.items()
)


class NewWordsReader:
    """The demo's `LooksReader`, which also tells wide faces and long fringes.

    Attributes: see `captions.readers.LooksReader`.
    """

    name = "demo reader with new words"
    margin: float | None = None
    batch = DemoLooksReader.batch

    def __init__(self) -> None:
        self._looks, self._net = DemoLooksReader(), committed_reader()
        self.attributes = (*self._looks.attributes, *NEW_WORDS)

    @torch.no_grad()
    def read(self, pictures: Sequence[np.ndarray]) -> Probabilities:
        """See `LooksReader`; a feature is taken to lie about what is read as a normal distribution does."""
        pixels = np.concatenate([brought_to_size(picture[None]) for picture in pictures])
        out = self._net((torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1).contiguous())
        found = dict(self._looks.read(pictures))
        for name, (feature, _) in FEATURES.items():
            place = GEOMETRY.index(feature)
            middle, spread = out["geometry"][:, place], out["log_spread"][:, place].exp()
            more = 0.5 * (1 + torch.erf(middle / (spread * math.sqrt(2))))
            found[name] = torch.stack([1 - more, more], 1).numpy()
        return found
