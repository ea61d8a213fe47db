"""Reads photographs of people, and makes known faces of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from ..captions.names import possible_names
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

    A file that bears another first and last name is another person's, in a sub folder `Name` too.

    Raises:
        MeasurementError: see `photos_below`.
    """
    places = {identity.key: place for place, identity in enumerate(identities)}
    photos = []
    for path, photo in photos_below(folder):
        # Some systems write accents apart: names are compared by `sameness`.
        keys = map(sameness, possible_names(path.relative_to(folder).as_posix()))
        place = next((places[key] for key in keys if key in places), None)
        if place is not None:
            photos.append((place, photo))
    return gallery_of_photos(recognizer, photos)


def gallery_of_photos(recognizer: Recognizer, photos: Iterable[tuple[int, np.ndarray]]) -> Gallery:
    """Known faces: of each photo, uint8 [height, width, 3] with the number of the person it shows, the largest face."""
    return join([read(recognizer, photo[None], [""]).gallery([person], SOURCE) for person, photo in photos] or [NOBODY])
