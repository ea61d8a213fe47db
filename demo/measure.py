"""The demo's ruler: who is recognized in a picture, which looks are still there, and how far other pictures moved.

Every figure is defined in docs/METHODS.md 1.8: identification is rank-1 in a gallery of the whole cast and, for each of
them, a hundred strangers with those looks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..evaluation.scores import picture_distance
from ..faces.scoring import ranks_first
from .reader import ReaderNet, Reading, read
from .world.people import Looks, cast, strangers
from .world.renderer import Picture, draw_all, picture_of, portrait

GALLERY_SEED = 99
LOOKS = ("hair", "skin", "glasses", "beard")


@dataclass(frozen=True)
class RenderGallery:
    """Embeddings of everybody who could be found: the cast in order, then the strangers."""

    embeddings: np.ndarray


def gallery_pictures() -> list[Picture]:
    """One picture of each of the cast, in order, then one of each stranger, in order."""
    rng = np.random.default_rng(GALLERY_SEED)
    pictures = [picture_of(rng, person, i) for i, person in enumerate(cast())]
    looks, geometry = strangers()
    return pictures + [portrait(rng, look, tuple(map(float, g))) for look, g in zip(looks, geometry, strict=True)]


def make_gallery(net: ReaderNet) -> RenderGallery:
    """Renders one picture of each of the cast and of each stranger, and reads them."""
    return RenderGallery(read(net, draw_all(gallery_pictures())).embeddings)


def identification_rate(reading: Reading, people: Sequence[int], gallery: RenderGallery) -> float:
    """Share of pictures to which the named person (index in the cast) is nearest in the whole gallery."""
    squares = np.square(gallery.embeddings).sum(1)
    nearness = 2 * reading.embeddings @ gallery.embeddings.T - squares
    return float(ranks_first(nearness, np.arange(len(squares)), people).mean())


def looks_kept(reading: Reading, looks: Sequence[Looks]) -> float:
    """Share of described looks (hair, skin, glasses, beard of every picture) that the reader still sees."""
    pairs = zip(reading.looks, looks, strict=True)
    return float(np.mean([getattr(seen, name) == getattr(told, name) for seen, told in pairs for name in LOOKS]))


def face_retention(reading: Reading) -> float:
    """Share of pictures in which a face is found."""
    return float(reading.face.mean())


def kinds_right(reading: Reading, kinds: Sequence[str]) -> float:
    """Share of pictures that show what was asked for: `kinds`, of the renderer's `KINDS`."""
    return float(np.mean([seen == asked for seen, asked in zip(reading.kinds, kinds, strict=True)]))


def interval(share: float, count: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share of `count` pictures."""
    if not count:
        return 0.0, 1.0
    square = 1.96**2 / count
    middle = (share + square / 2) / (1 + square)
    half = (share * (1 - share) * square + square**2 / 4) ** 0.5 / (1 + square)
    return max(0.0, middle - half), min(1.0, middle + half)


def preservation(plain: np.ndarray, prefixed: np.ndarray, other_noise: np.ndarray) -> float:
    """How far the prefix moves pictures of no person, as a share of what another noise does (0: unchanged)."""
    return float(picture_distance(plain, prefixed).mean() / picture_distance(plain, other_noise).mean())
