"""Draws an evaluation as one image: its table and its examples."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ...faces.palette import FAINT, INK, PAPER
from ..results import Evaluation
from .report import table

if TYPE_CHECKING:
    from PIL.Image import Image

TITLES, COLUMN, LINE, MARGIN, CELL, GAP = 250, 150, 28, 24, 128, 12
SHOWN = 6
LETTERS = 17


def draw_table(evaluation: Evaluation) -> Tensor:
    """The figures of all columns, and below each what it draws: `[1, height, width, 3]`, 0 to 1."""
    from PIL import Image, ImageDraw, ImageFont

    rows, examples = table(evaluation), evaluation.examples[:SHOWN]
    width = 2 * MARGIN + TITLES + COLUMN * len(evaluation.columns)
    height = 2 * MARGIN + LINE * len(rows) + (CELL + GAP) * len(examples)
    image = Image.new("RGB", (width, height), PAPER)
    pen, font, small = ImageDraw.Draw(image), ImageFont.load_default(16), ImageFont.load_default(13)
    for number, (title, *values) in enumerate(rows):
        y = MARGIN + number * LINE
        pen.text((MARGIN, y), title, INK, font)
        for place, value in enumerate(values):
            pen.text((_right(place), y), _short(value), INK, font, anchor="ra")
        pen.line([MARGIN, y + LINE - 5, width - MARGIN, y + LINE - 5], FAINT)
    for number, example in enumerate(examples):
        y = MARGIN + LINE * len(rows) + GAP + number * (CELL + GAP)
        pen.multiline_text((MARGIN, y), _wrapped(example.prompt), INK, small)
        for place, picture in enumerate(example.pictures):
            cell = _cell(picture)
            image.paste(cell, (_right(place) - cell.width, y))
    return torch.from_numpy(np.asarray(image, dtype=np.float32) / 255).unsqueeze(0)


def _right(place: int) -> int:
    return MARGIN + TITLES + (place + 1) * COLUMN


def _short(text: str) -> str:
    return text if len(text) <= LETTERS else f"{text[: LETTERS - 1]}…"


def _wrapped(text: str) -> str:
    from textwrap import fill

    return fill(text, 34, max_lines=5)


def _cell(picture: np.ndarray) -> Image:
    from PIL import Image

    image = Image.fromarray(picture)
    scale = CELL / max(image.size)
    size = tuple(max(1, round(side * scale)) for side in image.size)
    return image.resize(size, Image.Resampling.BOX if scale < 1 else Image.Resampling.NEAREST)
