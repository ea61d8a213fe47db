"""Measures pictures of the demo: who is recognized, which looks are still there, how far other pictures moved.

Every figure is defined in docs/METHODS.md 1.8: identification is rank-1, by cosine similarity, in one gallery of the
whole cast and, for each of them, a hundred strangers with those looks, whoever is asked about. Whatever measures on the
demo model, the nodes included, ranks in that gallery by `faces.scoring`.

`python -m anonymize_faces.demo.check --keep-gallery` reads the gallery and writes it beside the reader's weights; where
that file is missing or is of another reader, the gallery is drawn anew, which takes half a minute.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from weakref import WeakKeyDictionary

import numpy as np
import torch

from ...evaluation.scores import picture_distance
from ...faces.gallery import STRANGER, Gallery
from ...faces.recognizer import cosine_similarities
from ...faces.scoring import rank
from ...prefix import seal
from ..loader import WEIGHTS
from ..world.people import STRANGERS_PER_PERSON, Looks, cast, strangers
from ..world.renderer import Picture, draw_all, picture_of, portrait
from .reader import ReaderNet, Reading, read

GALLERY_SEED = 99
GALLERY_FILE = WEIGHTS / "gallery.safetensors"
LOOKS = ("hair", "skin", "glasses", "beard")


_galleries: WeakKeyDictionary[ReaderNet, Gallery] = WeakKeyDictionary()


def gallery_pictures() -> list[Picture]:
    """One picture of each of the cast, in order, then one of each stranger, in order."""
    rng = np.random.default_rng(GALLERY_SEED)
    pictures = [picture_of(rng, person, i) for i, person in enumerate(cast())]
    looks, geometry = strangers()
    return pictures + [portrait(rng, look, tuple(map(float, g))) for look, g in zip(looks, geometry, strict=True)]


def make_gallery(net: ReaderNet, draw: Callable[[Sequence[Picture]], np.ndarray] = draw_all) -> Gallery:
    """What a reader sees in one picture of each of the cast, numbered by their place in it, and of each stranger.

    Made once for each reader, of `GALLERY_FILE` or of some 6,500 pictures.

    Args:
        draw: draws them, uint8 [n, SIZE, SIZE, 3]; on all cores where nothing is said.
    """
    if net not in _galleries:
        people = np.full(len(cast()) * (1 + STRANGERS_PER_PERSON), STRANGER)
        people[: len(cast())] = np.arange(len(cast()))
        source = (
            f"renders of the demo's {len(cast())} people and of {STRANGERS_PER_PERSON} strangers with each one's looks"
        )
        embeddings = _kept_embeddings(net)
        if embeddings is None:
            embeddings = read(net, draw(gallery_pictures())).embeddings
        _galleries[net] = Gallery(embeddings, people, source)
    return _galleries[net]


def write_gallery(net: ReaderNet, file: Path = GALLERY_FILE) -> None:
    """Keeps what a reader sees in the gallery's pictures, for `make_gallery`."""
    from safetensors.torch import save_file

    embeddings = read(net, draw_all(gallery_pictures())).embeddings
    save_file({"embeddings": torch.from_numpy(embeddings)}, file, {"of": _digest_of(net)})


def _kept_embeddings(net: ReaderNet, file: Path = GALLERY_FILE) -> np.ndarray | None:
    """What `write_gallery` kept of this reader and these people; None if it did not."""
    from safetensors import safe_open

    if not file.exists():
        return None
    with safe_open(file, "np") as kept:
        return kept.get_tensor("embeddings") if (kept.metadata() or {}).get("of") == _digest_of(net) else None


def _digest_of(net: ReaderNet) -> str:
    pictures = hashlib.sha256(repr(gallery_pictures()).encode()).hexdigest()
    return seal({name: weight.float() for name, weight in net.state_dict().items()}, {"pictures": pictures})


def identification_rate(reading: Reading, people: Sequence[int], gallery: Gallery) -> float:
    """Share of pictures in which the named person (index in the cast) ranks first in the gallery."""
    ranked = rank(reading.face, reading.embeddings, np.asarray(people), gallery, cosine_similarities)
    return float(ranked.first.mean())


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
