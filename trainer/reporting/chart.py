"""Draws curves over two axes, with Pillow.

Pillow is what every host has; matplotlib is not.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...faces.palette import FAINT, INK, PAPER, Colour

if TYPE_CHECKING:
    from PIL.Image import Image

WIDTH, HEIGHT = 960, 540
LEFT, TOP, RIGHT, BOTTOM = 96, 64, 32, 64
SCALE = 2
"""Lines are drawn this much larger and then shrunk, which smooths their edges."""

Point = tuple[float, float]


@dataclass(frozen=True)
class Axis:
    """One axis: where it begins and ends, and where it is labelled with what."""

    low: float
    high: float
    ticks: Sequence[tuple[float, str]]

    def share(self, value: float) -> float:
        """How far along the axis a value lies, 0 to 1."""
        return (value - self.low) / (self.high - self.low)


@dataclass(frozen=True)
class Curve:
    """Points joined by a line; with dots on them if it is asked for."""

    points: Sequence[Point]
    colour: Colour
    width: int = 3
    dots: bool = False


def draw_chart(
    title: str, across_title: str, across: Axis, up: Axis, curves: Iterable[Curve], legend: Sequence[tuple[str, Colour]]
) -> Image:
    """Draws curves over two axes, later ones on top, with a legend: 960 × 540 pixels."""
    from PIL import Image, ImageDraw, ImageFont

    image = Image.new("RGB", (WIDTH * SCALE, HEIGHT * SCALE), PAPER)
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(15 * SCALE)
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM

    def place(point: Point) -> Point:
        x = LEFT + (right - LEFT) * across.share(point[0])
        y = TOP + (bottom - TOP) * (1 - up.share(point[1]))
        return x * SCALE, y * SCALE

    def line(start: Point, end: Point, colour: Colour) -> None:
        draw.line([(x * SCALE, y * SCALE) for x, y in (start, end)], fill=colour, width=SCALE)

    def write(x: float, y: float, text: str, anchor: str, colour: Colour = INK) -> None:
        draw.text((x * SCALE, y * SCALE), text, font=font, fill=colour, anchor=anchor)

    for value, label in up.ticks:
        y = place((across.low, value))[1] / SCALE
        line((LEFT, y), (right, y), FAINT)
        write(LEFT - 10, y, label, "rm")
    for value, label in across.ticks:
        write(place((value, up.low))[0] / SCALE, bottom + 10, label, "ma")
    for curve in curves:
        places = [place(point) for point in curve.points]
        if len(places) > 1:
            draw.line(places, fill=curve.colour, width=curve.width * SCALE, joint="curve")
        radius = 2 * curve.width * SCALE
        for x, y in places if curve.dots or len(places) == 1 else ():
            draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=curve.colour)
    line((LEFT, TOP), (LEFT, bottom), INK)
    line((LEFT, bottom), (right, bottom), INK)
    write(LEFT, 20, title, "la")
    write((LEFT + right) / 2, HEIGHT - 14, across_title, "md")
    x = right
    for name, colour in reversed(legend):
        write(x, 20, name, "ra", colour)
        x -= draw.textlength(name, font=font) / SCALE + 12
        draw.line([((x - 22) * SCALE, 29 * SCALE), (x * SCALE, 29 * SCALE)], fill=colour, width=4 * SCALE)
        x -= 46
    return image.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)
