"""Draws what was compared: pairs of pictures with their boxes, and how alike all are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from .measurement import FacePair, Measurement
from .palette import BLUE as OTHER
from .palette import FAINT, INK, PAPER, Colour
from .palette import GREY as GONE
from .palette import RED as RECOGNIZED
from .report import verdict

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

WIDTH, CELL, GAP, MARGIN = 960, 208, 12, 24
COLUMNS, SHOWN = 2, 6
HEAD, LINE, STRIP = 76, 26, 170
DOT = 5
LOW, HIGH = -0.5, 1.0


def plot_measurement(measurement: Measurement, plain: np.ndarray, anonymized: np.ndarray) -> Tensor:
    """The pairs that are most alike, with boxes, above all similarities on one axis: `[1, height, 960, 3]`, 0 to 1.

    Red is recognized, blue is not, grey is gone.

    Args:
        plain, anonymized: the pictures that were measured, uint8 [n, height, width, 3].
    """
    from PIL import Image, ImageDraw

    shown = _most_alike(measurement)
    rows = -(-len(shown) // COLUMNS)
    image = Image.new("RGB", (WIDTH, HEAD + rows * (CELL + LINE + GAP) + STRIP), PAPER)
    pen = ImageDraw.Draw(image)
    _write(pen, (MARGIN, 16), verdict(measurement), 17)
    told = f"Left: plain. Right: anonymized. Most alike first, {len(shown)} of {len(plain)} pairs."
    _write(pen, (MARGIN, 44), told, 14, GONE)
    column = (WIDTH - 2 * MARGIN + GAP) // COLUMNS
    for number, index in enumerate(shown):
        row, place = divmod(number, COLUMNS)
        x, y = MARGIN + place * column, HEAD + row * (CELL + LINE + GAP)
        _write(pen, (x, y), f"Pair {index + 1}: {_told(measurement, index)}", 14)
        for side, picture in enumerate((plain[index], anonymized[index])):
            cell = _cell(picture, list(_marks(measurement, index, side)))
            image.paste(cell, (x + side * (CELL + 4), y + LINE))
    _strip(pen, measurement, image.height - STRIP)
    return torch.from_numpy(np.asarray(image, dtype=np.float32) / 255).unsqueeze(0)


def _most_alike(measurement: Measurement) -> list[int]:
    alike = dict.fromkeys(range(len(measurement.plain)), -2.0)
    for pair in measurement.compared:
        alike[pair.picture] = max(alike[pair.picture], _similarity(pair))
    return sorted(alike, key=lambda picture: alike[picture], reverse=True)[:SHOWN]


def _similarity(pair: FacePair) -> float:
    """Of a pair in which both faces are there."""
    assert pair.similarity is not None
    return pair.similarity


def _told(measurement: Measurement, index: int) -> str:
    figures = [pair.similarity for pair in measurement.pairs if pair.picture == index]
    if not figures:
        return "no face in the plain picture"
    told = ["gone" if figure is None else f"{figure:.2f}" for figure in figures]
    return ", ".join(told[:6]) + (" …" if len(told) > 6 else "")


def _marks(measurement: Measurement, index: int, side: int) -> Iterator[tuple[tuple[float, ...], Colour]]:
    """Boxes with their colours; faces of the anonymized picture that belong to nobody are grey."""
    pairs = [pair for pair in measurement.pairs if pair.picture == index]
    partners = {id(pair.anonymized): pair for pair in pairs} if side else {id(pair.plain): pair for pair in pairs}
    for face in (measurement.anonymized if side else measurement.plain)[index]:
        pair = partners.get(id(face))
        if pair is None or pair.anonymized is None:
            yield face.box, GONE
        else:
            yield face.box, RECOGNIZED if pair.recognized(measurement.threshold.value) else OTHER


def _cell(picture: np.ndarray, marks: list[tuple[tuple[float, ...], Colour]]) -> Image:
    from PIL import Image, ImageDraw

    height, width = picture.shape[:2]
    scale = CELL / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = Image.fromarray(picture).resize(size, Image.Resampling.BOX if scale < 1 else Image.Resampling.NEAREST)
    cell = Image.new("RGB", (CELL, CELL), FAINT)
    left, top = (CELL - size[0]) // 2, (CELL - size[1]) // 2
    cell.paste(small, (left, top))
    pen = ImageDraw.Draw(cell)
    for box, colour in marks:
        x0, y0, x1, y1 = (value * scale for value in box)
        corners = [left + x0, top + y0, max(left + x0, left + x1 - 1), max(top + y0, top + y1 - 1)]
        pen.rectangle(corners, outline=colour, width=3)
    return cell


def _strip(pen: ImageDraw, measurement: Measurement, top: int) -> None:
    """All similarities as dots over one axis, piled up where they are equal, and the threshold."""
    left, right, base = MARGIN, WIDTH - MARGIN, top + STRIP - 44

    def across(value: float) -> float:
        return left + (right - left) * (min(max(value, LOW), HIGH) - LOW) / (HIGH - LOW)

    _write(pen, (left, top + 6), "Similarity of each face to the one in its place", 14)
    edge = across(measurement.threshold.value)
    pen.line([edge, top + 30, edge, base], fill=RECOGNIZED, width=2)
    _write(pen, (edge - 8, top + 30), f"recognized from {measurement.threshold.value:.2f} on", 13, RECOGNIZED, "ra")
    pen.line([left, base, right, base], fill=INK, width=1)
    for tick in np.arange(LOW, HIGH + 0.01, 0.25):
        _write(pen, (across(float(tick)), base + 8), f"{tick:g}", 13, anchor="ma")
    piled: Counter[int] = Counter()
    for pair in sorted(measurement.compared, key=_similarity):
        place = round(across(_similarity(pair)) / (2 * DOT))
        height = min(piled[place] * 2 * DOT, base - top - 60)
        piled[place] += 1
        x, y = place * 2 * DOT, base - DOT - 2 - height
        colour = RECOGNIZED if pair.recognized(measurement.threshold.value) else OTHER
        pen.ellipse([x - DOT + 1, y - DOT + 1, x + DOT - 1, y + DOT - 1], fill=colour)


def _write(
    pen: ImageDraw,
    place: tuple[float, float],
    text: str,
    size: int,
    colour: Colour = INK,
    anchor: str = "la",
) -> None:
    from PIL import ImageFont

    pen.text(place, text, fill=colour, font=ImageFont.load_default(size), anchor=anchor)
