"""Draws how alike an attacker's pictures are to the person: a row of dots for each attack, over one axis."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from ..faces.palette import BLUE, FAINT, INK, PAPER, RED

WIDTH, MARGIN, TITLES, ROW, HEAD, FOOT = 960, 24, 150, 56, 56, 48
DOT = 6
LOW, HIGH = -0.25, 1.0


def plot_similarities(title: str, rows: Mapping[str, tuple[float, ...]], threshold: float) -> Tensor:
    """The similarities of each row, with where recognition begins: `[1, height, 960, 3]`, 0 to 1.

    Red is recognized, blue is not; the upright line of a row is its mean.
    """
    from PIL import Image, ImageDraw, ImageFont

    image = Image.new("RGB", (WIDTH, HEAD + ROW * len(rows) + FOOT), PAPER)
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(15)
    left, right, base = MARGIN + TITLES, WIDTH - MARGIN, HEAD + ROW * len(rows)

    def across(value: float) -> float:
        return left + (right - left) * (min(max(value, LOW), HIGH) - LOW) / (HIGH - LOW)

    pen.text((MARGIN, 14), title, INK, font)
    for tick in np.arange(LOW, HIGH + 0.01, 0.25):
        pen.line([across(float(tick)), HEAD, across(float(tick)), base], FAINT)
        pen.text((across(float(tick)), base + 8), f"{tick:g}", INK, font, anchor="ma")
    pen.line([across(threshold), HEAD - 4, across(threshold), base], RED, 2)
    for number, (name, values) in enumerate(rows.items()):
        middle = HEAD + ROW * number + ROW / 2
        pen.text((MARGIN, middle), name, INK, font, anchor="lm")
        for value in values:
            x = across(value)
            pen.ellipse([x - DOT, middle - DOT, x + DOT, middle + DOT], RED if value >= threshold else BLUE)
        mean = across(sum(values) / len(values))
        pen.line([mean, middle - ROW / 3, mean, middle + ROW / 3], INK, 2)
    return torch.from_numpy(np.asarray(image, dtype=np.float32) / 255).unsqueeze(0)
