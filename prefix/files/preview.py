"""Keeps a small picture beside a prefix file: people without the prefix and with it, for lists of files.

It is no part of the file, so whoever hands on a prefix hands on no pictures of people. It says which vectors it shows:
a picture that was left behind by another prefix of the same name counts as none. Anybody may have put it there, so its
size is bounded before it is decoded, and what is handed out was encoded anew.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
from pathlib import Path
from typing import TYPE_CHECKING

from ..digests import seal
from ..value import Prefix
from .prefix_file import load_prefix
from .storage import SUFFIX, put_whole

if TYPE_CHECKING:
    from PIL.Image import Image

ENDING = ".preview.jpg"
"""What stands in the picture's name where the prefix file's has its suffix."""

SIDE = 512
"""Pixels of its longer side, at most."""

MOST_BYTES, MOST_SIDE = 256 * 2**10, 2048
"""What is read of a picture of unknown origin, and how many pixels its sides may have."""

QUALITY = 85


def preview_path(path: Path) -> Path:
    """Where the picture of a prefix file lies."""
    return path.with_name(path.stem + ENDING)


def preview_version(path: Path) -> str:
    """Changes when the picture of a prefix file does; empty if there is none. Says nothing of what is in it."""
    picture = preview_path(path)
    try:
        return str(picture.stat().st_mtime_ns) if path.suffix == SUFFIX and picture.is_file() else ""
    except OSError:
        return ""


def save_preview(prefix: Prefix, path: Path) -> None:
    """Puts the prefix's picture, if it has one, beside its file. A folder that takes none is left without."""
    if not prefix.preview:
        return
    with contextlib.suppress(OSError, ValueError):
        put_whole(_jpeg(_opened(prefix.preview), comment=_told(prefix)), preview_path(path), overwrite=True)


def load_preview(prefix: Prefix, path: Path) -> bytes:
    """The picture of a prefix and its file, a JPEG; empty if there is none that can be shown."""
    try:
        picture = preview_path(path)
        if path.suffix != SUFFIX or picture.is_symlink() or not picture.is_file():
            return b""
        with picture.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
        image = _opened(data)
        return _jpeg(image) if image.info.get("comment") == _told(prefix) else b""
    except Exception:  # Whatever a file makes its decoder do, there is no picture then.
        return b""


def load_with_preview(path: Path) -> Prefix:
    """The prefix of a file with its picture; raises what `load_prefix` raises."""
    prefix = load_prefix(path)
    return dataclasses.replace(prefix, preview=load_preview(prefix, path))


def move_preview(source: Path, target: Path) -> None:
    """Lets the picture follow its file, which has another name now."""
    with contextlib.suppress(OSError):
        if source.suffix == SUFFIX and preview_path(source).is_file():
            preview_path(source).replace(preview_path(target))


def remove_preview(path: Path) -> None:
    """Removes the picture of a file that was removed."""
    with contextlib.suppress(OSError):
        if path.suffix == SUFFIX:
            preview_path(path).unlink(missing_ok=True)


def _told(prefix: Prefix) -> bytes:
    """What the picture says of whose it is."""
    return seal(prefix.parameters, {}).encode()


def _opened(data: bytes) -> Image:
    """A JPEG whose pixels are not decoded yet.

    Raises:
        OSError: it is none.
        ValueError: it is larger than anything that we show.
    """
    from PIL import Image

    image = Image.open(io.BytesIO(data), formats=("JPEG",))
    if len(data) > MOST_BYTES or max(image.size) > MOST_SIDE:
        raise ValueError("The picture is too large.")
    return image


def _jpeg(image: Image, **options: bytes) -> bytes:
    """The pixels of a picture and nothing else of it, made small."""
    pixels = image.convert("RGB")
    pixels.thumbnail((SIDE, SIDE))
    pixels.info.clear()
    file = io.BytesIO()
    pixels.save(file, "JPEG", quality=QUALITY, **options)
    return file.getvalue()
