"""Draws pictures side by side as one image: a column for each way of drawing, a row for each prompt, with labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ...faces.palette import INK, PAPER

if TYPE_CHECKING:
    from PIL.Image import Image

SMALLEST, LARGEST = 192, 640
"""Pixels of the longer side of a cell: small pictures are enlarged, large ones shrunk."""

MARGIN, GAP, HEAD, TITLE = 16, 8, 30, 26
FONT = 16
LETTER = 9
"""Pixels that a letter of that size takes at most, on average."""


def labelled_grid(columns: Sequence[str], rows: Sequence[str], cells: Sequence[Sequence[np.ndarray]]) -> Tensor:
    """Draws them: `[1, height, width, 3]`, 0 to 1.

    Args:
        columns: what stands above each column.
        rows: what stands above each row; a row of the same words as the one before is told once.
        cells: pictures uint8 `[height, width, 3]` by row and column, all of one size.
    """
    from PIL import Image, ImageDraw, ImageFont

    wide, high = _size_of(cells[0][0])
    width = 2 * MARGIN + len(columns) * wide + (len(columns) - 1) * GAP
    told = [words if number == 0 or words != rows[number - 1] else "" for number, words in enumerate(rows)]
    height = MARGIN + HEAD + sum(high + GAP + (TITLE if words else 0) for words in told) - GAP + MARGIN
    image = Image.new("RGB", (width, height), PAPER)
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(FONT)
    for place, words in enumerate(columns):
        middle = MARGIN + place * (wide + GAP) + wide // 2
        pen.text((middle, MARGIN), shortened(words, wide), INK, font, anchor="ma")
    y = MARGIN + HEAD
    for words, pictures in zip(told, cells, strict=True):
        if words:
            pen.text((MARGIN, y), shortened(words, width - 2 * MARGIN), INK, font)
            y += TITLE
        for place, picture in enumerate(pictures):
            image.paste(_cell(picture, (wide, high)), (MARGIN + place * (wide + GAP), y))
        y += high + GAP
    return torch.from_numpy(np.asarray(image, dtype=np.float32) / 255).unsqueeze(0)


def shortened(words: str, width: int) -> str:
    """One line of text that has room in so many pixels."""
    line = " ".join(words.split())
    letters = max(1, width // LETTER)
    return line if len(line) <= letters else f"{line[: letters - 1]}…"


def _size_of(picture: np.ndarray) -> tuple[int, int]:
    """Width and height of a cell."""
    height, width = picture.shape[:2]
    longer = max(height, width)
    scale = min(max(longer, SMALLEST), LARGEST) / longer
    return max(1, round(width * scale)), max(1, round(height * scale))


def _cell(picture: np.ndarray, size: tuple[int, int]) -> Image:
    from PIL import Image

    image = Image.fromarray(picture)
    return image.resize(size, Image.Resampling.LANCZOS) if size != image.size else image
