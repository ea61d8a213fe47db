"""Draws the picture that shows a prefix at work: pairs from the same noise, without it above and with it below."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ...faces.palette import INK, PAPER, SOFT

CELL, GAP, MARGIN, TITLE, COLUMNS = 128, 10, 22, 20, 8
LETTERS = 20


def before_after(
    people: Sequence[tuple[str, bool, np.ndarray, np.ndarray]], things: Sequence[tuple[str, np.ndarray, np.ndarray]]
) -> Image.Image:
    """Draws people `(name, unseen, plain, anonymized)`, things `(prompt, plain, prefixed)`, pictures uint8."""
    cells = [(name, "never learned on" if unseen else "", plain, after) for name, unseen, plain, after in people]
    cells += [(*_two_lines(prompt), plain, after) for prompt, plain, after in things]
    rows = -(-len(cells) // COLUMNS)
    height_of_row = 2 * CELL + 2 * TITLE + GAP
    width = 2 * MARGIN + COLUMNS * CELL + (COLUMNS - 1) * GAP
    sheet = Image.new("RGB", (width, 2 * MARGIN + 26 + rows * (height_of_row + GAP)), PAPER)
    pen = ImageDraw.Draw(sheet)
    title, small = ImageFont.load_default(16), ImageFont.load_default(12)
    pen.text((MARGIN, MARGIN - 8), "Above: plain.  Below: with Anonymize Faces, same prompt, same noise.", INK, title)
    for index, (name, note, plain, after) in enumerate(cells):
        row, column = divmod(index, COLUMNS)
        x, y = MARGIN + column * (CELL + GAP), MARGIN + 26 + row * (height_of_row + GAP)
        pen.text((x, y), name, INK, small)
        pen.text((x, y + 14), note, SOFT, small)
        for k, pixels in enumerate((plain, after)):
            cell = Image.fromarray(pixels).resize((CELL, CELL), Image.Resampling.LANCZOS)
            sheet.paste(cell, (x, y + 2 * TITLE - 8 + k * (CELL + 2)))
    return sheet


def _two_lines(text: str) -> tuple[str, str]:
    first, *rest = wrap(text, LETTERS)
    return first, " ".join(rest)
