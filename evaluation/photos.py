"""Reads photographs of people, and makes known faces of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from ..faces.gallery import NOBODY, Gallery, join
from ..faces.picture_files import SUFFIXES, pictures_below, read_picture
from ..faces.recognizer import Recognizer
from ..prefix import MeasurementError
from ..trainer.data.identities import Identity
from ..trainer.data.list_text import sameness
from .readings import read

SOURCE = "photos of them"


def photos_below(folder: Path) -> list[tuple[Path, np.ndarray]]:
    """All pictures in a folder and its sub folders, in the order of their names: uint8 [height, width, 3].

    Raises:
        MeasurementError: the folder holds none, or one cannot be read.
    """
    photos = [(path, read_picture(path)) for path in pictures_below(folder)]
    if not photos:
        raise MeasurementError(f"There are no pictures in '{folder}': put some there ({', '.join(SUFFIXES)}).")
    return photos


def gallery_of_folder(recognizer: Recognizer, identities: Sequence[Identity], folder: Path) -> Gallery:
    """Known faces from `Name.jpg`, `Name 2.jpg`, … or a sub folder `Name`; other files are left out.

    Raises:
        MeasurementError: see `photos_below`.
    """
    photos = []
    for path, photo in photos_below(folder):
        title = sameness("/".join(path.relative_to(folder).parts))  # Some systems write accents apart.
        # Of two names of which one begins the other, the longer one is meant.
        fitting = [place for place, identity in enumerate(identities) if title.startswith(identity.key)]
        if fitting:
            photos.append((max(fitting, key=lambda place: len(identities[place].name)), photo))
    return gallery_of_photos(recognizer, photos)


def gallery_of_photos(recognizer: Recognizer, photos: Iterable[tuple[int, np.ndarray]]) -> Gallery:
    """Known faces: of each photo, uint8 [height, width, 3] with the number of the person it shows, the largest face."""
    return join([read(recognizer, photo[None], [""]).gallery([person], SOURCE) for person, photo in photos] or [NOBODY])
