"""Makes the reader a `LooksReader`, so that whatever describes faces runs on the demo model without downloads."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from ...captions.attributes import Answer, Attribute, chosen_attributes
from ...captions.grammar import with_article
from ...captions.readers import Probabilities
from .reader import LOOKS, ReaderNet, committed_reader
from .recognizer import brought_to_size

MASS_NOUNS = ("hair", "skin")
"""Looks of which one says "black hair", not "a black hair"."""


def demo_attributes() -> tuple[Attribute, ...]:
    """What the demo's reader reads, with its own answers, in words such as the demo's language has."""
    return tuple(_attribute(name, tuple(values)) for name, values in LOOKS.items())


class DemoLooksReader:
    """Reads the demo's drawn faces; of real ones it knows nothing.

    Args:
        attributes: see `captions.attributes.chosen_attributes`; of the demo's own.
        net: the reader; the committed one if none is given.

    Raises:
        DescriptionError: there is no such attribute.
    """

    name = "demo reader"
    margin: float | None = None
    batch = 64

    def __init__(self, attributes: str = "", net: ReaderNet | None = None) -> None:
        self.attributes = chosen_attributes(attributes, demo_attributes())
        self._net = net or committed_reader()

    @torch.no_grad()
    def read(self, pictures: Sequence[np.ndarray]) -> Probabilities:
        """See `LooksReader`."""
        pixels = np.concatenate([brought_to_size(picture[None]) for picture in pictures])
        x = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
        out = self._net(x.contiguous())
        return {one.name: out[one.name].softmax(-1).numpy() for one in self.attributes}


def _attribute(name: str, values: Sequence[str | bool]) -> Attribute:
    if set(values) <= {False, True}:
        noun = name if name.endswith("s") or name in MASS_NOUNS else with_article(name)
        answers = tuple(Answer("yes" if value else "none", noun if value else f"no {name}") for value in values)
        return Attribute(name, answers)
    answers = tuple(Answer(str(value), str(value)) for value in values)
    mass = name in MASS_NOUNS or name.endswith("s")
    return Attribute(name, answers, noun=name.replace("_", " "), article=not mass)
