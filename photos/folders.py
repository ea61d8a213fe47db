"""Reads photographs of a folder, and writes protected ones under their own names, as PNG."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..faces.picture_files import SUFFIXES, pictures_below, upright_picture
from ..prefix.errors import PhotoError, shown
from ..prefix.files.storage import put_whole


@dataclass(frozen=True)
class Photo:
    """A photograph of a file.

    Attributes:
        name: of the file, below the folder, without suffix.
        pixels: uint8 `[height, width, 3]`, turned as its EXIF data say.
        alpha: uint8 `[height, width]`; None where it is not transparent anywhere.
    """

    name: str
    pixels: np.ndarray
    alpha: np.ndarray | None = None


def photos_in(folder: Path) -> list[Photo]:
    """The photos of a folder and of its sub folders, in the order of their names.

    Raises:
        PhotoError: there are none, two would be written under one name, or one cannot be protected as it is.
    """
    if not folder.is_dir():
        raise PhotoError(f"'{shown(folder)}' is no folder: name the folder that the photos lie in.")
    paths = pictures_below(folder)
    if not paths:
        raise PhotoError(f"There are no photos in '{shown(folder)}': put some there ({', '.join(SUFFIXES)}).")
    names = [path.relative_to(folder).with_suffix("").as_posix() for path in paths]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise PhotoError(f"Several photos are called '{shown(twice)}': rename one, as all are written as PNG.")
    return [_read(path, name) for path, name in zip(paths, names, strict=True)]


def photo_of(path: Path) -> Photo:
    """The photo of one file.

    Raises:
        PhotoError: it is not there, or cannot be used as it is.
    """
    if not path.is_file():
        raise PhotoError(f"There is no photo '{shown(path)}': name another file.")
    return _read(path, path.stem)


def write_pictures(pictures: np.ndarray, folder: Path) -> None:
    """Writes pictures uint8 `[n, height, width, 3]`, numbered, as PNG."""
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    for number, pixels in enumerate(pictures, 1):
        Image.fromarray(pixels).save(folder / f"{number:03}.png")


def write_photos(photos: Sequence[Photo], changed: Sequence[np.ndarray], folder: Path) -> Iterator[tuple[Path, bytes]]:
    """Writes changed photos under their names as PNG without EXIF data; each file and what it holds.

    Raises:
        OSError: a file cannot be written.
    """
    from PIL import Image

    for photo, pixels in zip(photos, changed, strict=True):
        whole = pixels if photo.alpha is None else np.dstack([pixels, photo.alpha])
        data = io.BytesIO()
        Image.fromarray(whole).save(data, "PNG")
        path = folder / f"{photo.name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        put_whole(data.getvalue(), path, overwrite=True)
        yield path, data.getvalue()


def reread(data: bytes) -> np.ndarray:
    """The pixels uint8 `[height, width, 3]` of a file that was written."""
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def _read(path: Path, name: str) -> Photo:
    with upright_picture(path, PhotoError) as image:
        if image.mode.startswith(("I", "F")) or _is_deep_png(path):
            raise PhotoError(
                f"'{shown(path.name)}' has more than 8 bits a colour, in which it would not be published: save it"
                " with 8 bits first."
            )
        alpha = None
        if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
            seen = np.asarray(image.convert("RGBA"))[..., 3]
            alpha = None if seen.min() == 255 else seen.copy()
        return Photo(name, np.asarray(image.convert("RGB")).copy(), alpha)


def _is_deep_png(path: Path) -> bool:
    """Whether it is a PNG of 16 bits, which would be read as one of 8 without a word."""
    with path.open("rb") as file:
        head = file.read(25)
    return head.startswith(b"\x89PNG") and len(head) == 25 and head[24] == 16
