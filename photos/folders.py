"""Reads photographs of a folder, and writes protected ones under their own names, as PNG."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..faces.picture_files import SUFFIXES, pictures_below, upright_picture
from ..prefix.errors import PhotoError, shown
from ..prefix.files.storage import put_whole

UNREAD_SUFFIXES = (".arw", ".avif", ".cr2", ".cr3", ".dng", ".heic", ".heif", ".jp2", ".jxl", ".nef", ".raf")
"""How the names of files end that hold photographs which are not read, in small letters."""

BITS_PER_SAMPLE = 258
"""TIFF's tag for the bits of each colour."""


@dataclass(frozen=True)
class Photo:
    """A photograph of a file.

    Attributes:
        name: of the file, below the folder, without suffix.
        pixels: uint8 `[height, width, 3]`, turned as its EXIF data say.
        alpha: uint8 `[height, width]`; None where it is not transparent anywhere.
        profile: what its colours mean (ICC), without which it would look other than it did; None for the usual sRGB.
    """

    name: str
    pixels: np.ndarray
    alpha: np.ndarray | None = None
    profile: bytes | None = None


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
    alike = [name.casefold() for name in names]  # Many systems tell no large letters from small ones.
    twice = next((name for name, own in zip(names, alike, strict=True) if alike.count(own) > 1), None)
    if twice is not None:
        raise PhotoError(f"Several photos are called '{shown(twice)}': rename one, as all are written as PNG.")
    return [_read(path, name) for path, name in zip(paths, names, strict=True)]


def unread_in(folder: Path) -> list[str]:
    """The names of photographs in a folder and its sub folders that `photos_in` passes over, as it cannot read them."""
    found = (path for path in folder.rglob("*") if path.suffix.lower() in UNREAD_SUFFIXES and path.is_file())
    names = (path.relative_to(folder) for path in found)
    return sorted(name.as_posix() for name in names if not any(part[0] == "." for part in name.parts))


def photo_of(path: Path) -> Photo:
    """The photo of one file.

    Raises:
        PhotoError: it is not there, or cannot be used as it is.
    """
    if not path.is_file():
        raise PhotoError(f"There is no photo '{shown(path)}': name another file.")
    return _read(path, path.stem)


def write_pictures(
    pictures: np.ndarray, folder: Path, note: Callable[[Path, bytes], None] = lambda path, data: None
) -> None:
    """Writes pictures uint8 `[n, height, width, 3]`, numbered, as PNG; then removes those that go on behind them.

    Args:
        note: called with a file and what it will hold before it is written.

    Raises:
        OSError: a file cannot be written.
    """
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    for number, pixels in enumerate(pictures, 1):
        data = io.BytesIO()
        Image.fromarray(pixels).save(data, "PNG")
        path = folder / f"{number:03}.png"
        note(path, data.getvalue())
        put_whole(data.getvalue(), path, overwrite=True)
    # Else pictures that more were once drawn of would be taken for some of these.
    number = len(pictures) + 1
    while (path := folder / f"{number:03}.png").is_file():
        path.unlink()
        number += 1


def write_photos(
    photos: Sequence[Photo],
    changed: Sequence[np.ndarray],
    folder: Path,
    note: Callable[[Path, bytes], None] = lambda path, data: None,
) -> Iterator[tuple[Path, bytes]]:
    """Writes changed photos under their names as PNG without EXIF data, with their profiles of colour.

    Yields each file and what it holds.

    Args:
        note: called with both before a file is written.

    Raises:
        OSError: a file cannot be written.
    """
    from PIL import Image

    for photo, pixels in zip(photos, changed, strict=True):
        whole = pixels if photo.alpha is None else np.dstack([pixels, photo.alpha])
        data = io.BytesIO()
        Image.fromarray(whole).save(data, "PNG", icc_profile=photo.profile)
        path = folder / f"{photo.name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        note(path, data.getvalue())
        put_whole(data.getvalue(), path, overwrite=True)
        yield path, data.getvalue()


def reread(data: bytes) -> np.ndarray:
    """The pixels uint8 `[height, width, 3]` of a file that was written."""
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def _read(path: Path, name: str) -> Photo:
    with upright_picture(path, PhotoError) as image:
        if image.mode.startswith(("I", "F")) or _is_deep(path):
            raise PhotoError(
                f"'{shown(path.name)}' has more than 8 bits a colour, in which it would not be published: save it"
                " with 8 bits first."
            )
        alpha = None
        if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
            seen = np.asarray(image.convert("RGBA"))[..., 3]
            alpha = None if seen.min() == 255 else seen.copy()
        # Profiles of grey and of printing inks say nothing of red, green and blue.
        profile = image.info.get("icc_profile") if image.mode in ("RGB", "RGBA", "P", "PA") else None
        return Photo(name, np.asarray(image.convert("RGB")).copy(), alpha, profile or None)


def _is_deep(path: Path) -> bool:
    """Whether it is a PNG or a TIFF of 16 bits a colour, which would be read as one of 8 without a word."""
    from PIL import Image

    with path.open("rb") as file:
        head = file.read(25)
    if head.startswith(b"\x89PNG"):
        return len(head) == 25 and head[24] == 16
    with Image.open(path) as image:
        bits = getattr(image, "tag_v2", {}).get(BITS_PER_SAMPLE, (8,)) if image.format == "TIFF" else (8,)
    return max(bits) > 8
