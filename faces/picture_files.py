"""Reads photographs from files of any common format, upright, as pixels."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile, ImageOps

from ..prefix.errors import AnonymizationError, MeasurementError, first_line, shown
from .palette import PAPER

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
"""How the names of files end that hold pictures, in small letters."""

MOST_PIXELS = 2**27
"""134 megapixels; a larger picture is refused before it is unpacked."""

_SIXTEEN_BIT = ("I;16", "I;16B", "I;16L", "I;16N", "I", "F")


def pictures_below(folder: Path) -> list[Path]:
    """The files in a folder and its sub folders that are called like pictures, in the order of their names.

    Hidden ones are left out: systems keep notes of their own under such names.
    """
    found = (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    return sorted(path for path in found if not any(part[0] == "." for part in path.relative_to(folder).parts))


def read_picture(path: Path) -> np.ndarray:
    """A picture, uint8 [height, width, 3], turned as its EXIF says.

    16 bits become 8. White shows through where it is transparent.

    Raises:
        MeasurementError: it is not there, no picture, damaged, animated, or too large.
    """
    with upright_picture(path) as image:
        return _pixels(image)


@contextlib.contextmanager
def upright_picture(path: Path, refusal: type[AnonymizationError] = MeasurementError) -> Iterator[Image.Image]:
    """A picture as Pillow reads it, turned as its EXIF says; whatever is wrong with it, also inside, is an error.

    Args:
        refusal: the class of that error.

    Raises:
        AnonymizationError: a `refusal`: it is not there, no picture, damaged, animated, or too large.
    """
    name = shown(path.name)
    try:
        with _strict(), Image.open(path) as image:
            # Phones write small copies and maps of brightness behind a photo of theirs (MPO): the photo comes first.
            if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
                raise refusal(
                    f"'{name}' is animated or has several pages: save the picture you mean as a file of its own."
                )
            if image.width * image.height > MOST_PIXELS:
                raise refusal(
                    f"'{name}' has {image.width * image.height // 10**6} megapixels: shrink it below"
                    f" {MOST_PIXELS // 10**6}."
                )
            yield ImageOps.exif_transpose(image)
    except AnonymizationError:
        raise
    except FileNotFoundError as error:
        raise refusal(f"There is no file '{name}': put it there, or correct its name.") from error
    except Image.UnidentifiedImageError as error:
        raise refusal(f"'{name}' is no picture: remove it, or save it as JPEG or PNG.") from error
    except Image.DecompressionBombError as error:
        raise refusal(f"'{name}' has too many pixels: shrink it.") from error
    except Exception as error:  # Whatever a damaged file makes a decoder raise.
        raise refusal(f"'{name}' is damaged ({first_line(error)}): get the file anew, or remove it.") from error


@contextlib.contextmanager
def _strict() -> Iterator[None]:
    """Inside, Pillow fills up no damaged picture, as other packs let it, and warns of no large one: it is refused."""
    before = ImageFile.LOAD_TRUNCATED_IMAGES
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = before


def _pixels(image: Image.Image) -> np.ndarray:
    if image.mode in _SIXTEEN_BIT:
        values = np.asarray(image, np.float64)
        most = 255 if values.max(initial=0) <= 255 and image.mode in ("I", "F") else 65535
        grey = np.nan_to_num(values / most * 255).round().clip(0, 255).astype(np.uint8)
        return np.repeat(grey[..., None], 3, 2)
    if "A" in image.getbands() or "transparency" in image.info:
        seen = image.convert("RGBA")
        paper = Image.new("RGBA", seen.size, (*PAPER, 255))  # What shows through where it is transparent.
        return np.array(Image.alpha_composite(paper, seen).convert("RGB"))
    return np.array(image.convert("RGB"))
