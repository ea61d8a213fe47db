"""Draws where a picture is set, and the scenes that are pictures by themselves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from .drawing import WHITE, Pen, Rgb, gradient, mix, shade

COLOURS: dict[str, Rgb] = {
    "red": (206, 48, 48),
    "blue": (52, 92, 200),
    "green": (58, 150, 76),
    "yellow": (236, 200, 62),
    "purple": (134, 70, 168),
    "orange": (236, 132, 44),
}
PLACES: dict[str, tuple[Rgb, Rgb]] = {
    "a garden": ((186, 222, 236), (104, 166, 88)),
    "the beach": ((150, 206, 240), (236, 216, 164)),
    "the city": ((192, 204, 220), (128, 132, 142)),
    "the snow": ((206, 222, 238), (246, 248, 252)),
    "the night": ((24, 30, 74), (52, 50, 84)),
    "a studio": ((214, 206, 198), (178, 170, 164)),
}
"""Each with the colour of its sky or wall, and of its ground."""

SCENES = ("mountains", "a sunset", "a rainbow", "a road")


def background(place: str, jitter: Sequence[float]) -> Image.Image:
    """The surroundings of a person or a thing, on a canvas."""
    top, ground = PLACES[place]
    tint = 1.0 + 0.05 * jitter[5]
    image = gradient(shade(top, tint * 0.94), shade(mix(top, WHITE, 0.25), tint) if place != "a studio" else ground)
    pen = Pen(image)
    slide = 0.05 * jitter[5]
    horizon = 0.14 + 0.8 * slide
    if place == "a garden":
        for i in range(7):
            pen.oval(-0.54 + 0.18 * i + slide, horizon, 0.13, 0.10 + 0.035 * (i * 3 % 4), shade((70, 134, 74), tint))
        pen.box(-0.5, horizon + 0.02, 0.5, 0.5, shade(ground, tint))
        for i in range(6):
            rgb = ((238, 108, 120), (250, 220, 110), (236, 236, 246))[i % 3]
            pen.oval(-0.46 + 0.185 * i - slide, horizon + 0.10 + 0.07 * (i % 2), 0.020, 0.020, rgb)
    elif place == "the beach":
        pen.oval(0.33 - slide, -0.33, 0.075, 0.075, (255, 240, 180))
        pen.box(-0.5, horizon - 0.03, 0.5, horizon + 0.12, shade((62, 140, 196), tint))
        pen.box(-0.5, horizon + 0.10, 0.5, 0.5, shade(ground, tint))
        pen.box(-0.5, horizon + 0.085, 0.5, horizon + 0.11, (226, 240, 244))
    elif place == "the city":
        for i, height in enumerate((0.50, 0.72, 0.56, 0.80, 0.48, 0.66)):
            left = -0.52 + 0.175 * i + slide
            wall = shade((130, 140, 160), 1 - 0.08 * (i % 3))
            pen.box(left, 0.42 - height, left + 0.155, 0.5, wall)
            for k in range(int(height / 0.12)):
                for column in (0.028, 0.088):
                    y = 0.46 - height + 0.115 * k
                    pen.box(left + column, y, left + column + 0.038, y + 0.055, shade((236, 224, 170), 0.9))
    elif place == "the snow":
        pen.oval(-0.25 + slide, horizon + 0.22, 0.55, 0.26, (226, 236, 246))
        pen.oval(0.35 + slide, horizon + 0.26, 0.55, 0.26, ground)
        for x, size in ((-0.42, 0.20), (-0.27, 0.14), (0.40, 0.22)):
            for k in range(3):
                w, y = size * (0.35 + 0.14 * k), horizon + 0.04 - size * (1.0 - 0.36 * k)
                pen.fill(
                    [[x + slide - w, y + 0.5 * size], [x + slide, y], [x + slide + w, y + 0.5 * size]], (62, 110, 100)
                )
        for i in range(14):
            pen.oval((37 * i + 11) % 61 / 61 - 0.5, (23 * i + 5) % 47 / 61 - 0.46 + slide, 0.010, 0.010, WHITE)
    elif place == "the night":
        for i in range(13):
            pen.oval((37 * i + 11) % 61 / 61 - 0.5, (23 * i + 5) % 31 / 61 - 0.46, 0.009, 0.009, (236, 232, 200))
        pen.oval(-0.33 + slide, -0.33, 0.075, 0.075, (246, 240, 206))
        pen.oval(-0.30 + slide, -0.345, 0.062, 0.062, shade(top, tint))
        pen.fill(
            [[-0.5, horizon], [-0.2, horizon - 0.09], [0.1, horizon], [0.35, horizon - 0.06], [0.5, horizon]], ground
        )
        pen.box(-0.5, horizon - 0.002, 0.5, 0.5, ground)
    else:
        pen.oval(slide, -0.05, 0.42, 0.42, WHITE, 0.16)
        pen.oval(slide, -0.05, 0.28, 0.28, WHITE, 0.14)
    return image


def scene(kind: str, rgb: Rgb, j: Sequence[float]) -> Image.Image:
    """One of `SCENES` on a canvas."""
    tops = {"a sunset": ((128, 84, 140), (250, 176, 100)), "a rainbow": ((150, 190, 226), (208, 228, 240))}
    image = gradient(*tops.get(kind, ((126, 184, 232), (206, 230, 246))))
    pen = Pen(image)
    if kind == "mountains":
        for x, h, rock in ((0.24, 0.62, (136, 144, 166)), (-0.22, 0.56, (112, 120, 144))):
            x, h = x + 0.05 * j[0], h + 0.05 * j[1] * np.sign(x)
            peak = 0.36 - h
            pen.fill([[x - 0.45, 0.4], [x, peak], [x + 0.45, 0.4]], rock)
            pen.fill([[x, peak], [x + 0.45, 0.4], [x + 0.10, 0.4], [x + 0.03, peak + 0.2]], shade(rock, 0.86))
            zigzag = [[x - 0.13, peak + 0.18], [x - 0.06, peak + 0.14], [x, peak + 0.2], [x + 0.07, peak + 0.13]]
            pen.fill([[x, peak], *zigzag[:4], [x + 0.13, peak + 0.18]], WHITE)
        pen.fill([[-0.5, 0.34], [-0.1, 0.29], [0.3, 0.33], [0.5, 0.30], [0.5, 0.5], [-0.5, 0.5]], (96, 156, 90))
        pen.oval(-0.34 + 0.03 * j[2], -0.36, 0.07, 0.03, WHITE, 0.85)
        pen.oval(-0.28 + 0.03 * j[2], -0.38, 0.06, 0.04, WHITE, 0.85)
    elif kind == "a sunset":
        x, r, sea = 0.2 * j[0], 0.17 + 0.02 * j[1], 0.12 + 0.03 * j[2]
        pen.oval(x, 0.06, r * 1.45, r * 1.45, (255, 214, 140), 0.35)
        pen.oval(x, 0.06, r, r, (255, 232, 150))
        pen.box(-0.5, sea, 0.5, 0.5, (78, 70, 128))
        for k in range(4):
            y, w = sea + 0.03 + 0.07 * k, r * (0.9 - 0.16 * k)
            pen.box(x - w, y, x + w, y + 0.022, (250, 196, 120), 0.75)
    elif kind == "a rainbow":
        x = 0.1 * j[0]
        for i, band in enumerate([*COLOURS.values(), None]):
            r = 0.52 - 0.045 * i
            pen.oval(x, 0.34, r, r, band or (200, 223, 239))
        pen.fill([[-0.5, 0.26], [-0.2, 0.22], [0.2, 0.27], [0.5, 0.23], [0.5, 0.5], [-0.5, 0.5]], (100, 160, 92))
    else:
        pen.box(-0.5, 0.0, 0.5, 0.5, (112, 168, 98))
        pen.fill([[-0.5, 0.01], [-0.3, -0.07], [0.0, 0.01], [0.25, -0.05], [0.5, 0.01]], (92, 146, 92))
        x = 0.12 * j[0]
        pen.fill([[x - 0.03, 0], [x + 0.03, 0], [0.36, 0.5], [-0.36, 0.5]], (96, 96, 106))
        for a, b in ((0.02, 0.2), (0.32, 0.5), (0.66, 0.95)):
            ends = [(x * (1 - s), 0.5 * s, 0.004 + 0.022 * s) for s in (a, b)]
            (x0, y0, w0), (x1, y1, w1) = ends
            pen.fill([[x0 - w0, y0], [x0 + w0, y0], [x1 + w1, y1], [x1 - w1, y1]], (246, 238, 204))
        pen.oval(0.28, -0.32, 0.085, 0.085, rgb)
    return image
