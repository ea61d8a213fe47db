"""Draws shapes and objects in a given colour."""

from __future__ import annotations

import numpy as np
from PIL import Image

from .drawing import INK, WHITE, Pen, Rgb, arc, mix, oval, shade

SHAPES = ("circle", "square", "triangle", "star")
OBJECTS = ("house", "tree", "boat", "cup", "car", "flower", "book", "letter")
_WOOD: Rgb = (112, 76, 50)


def draw_shape(image: Image.Image, kind: str, rgb: Rgb, jitter: tuple[float, ...]) -> None:
    """One of `SHAPES` in the middle of a canvas."""
    pen = Pen(image, jitter, (0.5, 0.5), 0.27, reach=2.0)
    t = np.linspace(0, 2 * np.pi, 5, endpoint=False) - np.pi / 2
    outer, inner = (
        np.stack([np.cos(t), np.sin(t)], 1),
        np.stack([np.cos(t + np.pi / 5), np.sin(t + np.pi / 5)], 1) * 0.44,
    )
    points = {
        "circle": oval(0, 0, 1, 1),
        "square": np.array([[-0.9, -0.9], [0.9, -0.9], [0.9, 0.9], [-0.9, 0.9]]),
        "triangle": np.array([[0, -1.05], [1.0, 0.8], [-1.0, 0.8]]),
        "star": np.stack([outer, inner], 1).reshape(-1, 2) * 1.2,
    }[kind]
    pen.fill(points * 1.07, shade(rgb, 0.62))
    pen.fill(points, rgb)
    pen.fill(points * 0.62 + (-0.05, -0.07), mix(rgb, WHITE, 0.14))


def draw_object(image: Image.Image, kind: str, rgb: Rgb, behind: Rgb, jitter: tuple[float, ...]) -> None:
    """One of `OBJECTS` on a canvas; `behind` is what shows through where it has a hole."""
    pen = Pen(image, jitter, (0.5, 0.58), 1.12, reach=1.6)
    dark, light = shade(rgb, 0.64), mix(rgb, WHITE, 0.25)
    if kind == "house":
        pen.box(0.12, -0.30, 0.18, -0.12, shade(_WOOD, 0.9))
        pen.box(-0.24, -0.08, 0.24, 0.26, rgb)
        pen.fill([[-0.31, -0.07], [0, -0.34], [0.31, -0.07]], dark)
        pen.box(-0.055, 0.06, 0.055, 0.26, _WOOD)
        pen.oval(0.033, 0.165, 0.010, 0.010, (240, 210, 120))
        for x in (-0.155, 0.155):
            pen.box(x - 0.053, -0.01, x + 0.053, 0.10, WHITE)
            pen.box(x - 0.043, 0.0, x + 0.043, 0.09, (150, 196, 226))
            pen.box(x - 0.005, 0.0, x + 0.005, 0.09, WHITE)
    elif kind == "tree":
        pen.fill([[-0.035, 0.02], [0.035, 0.02], [0.06, 0.31], [-0.06, 0.31]], _WOOD)
        for x, y, r in ((-0.12, -0.03, 0.14), (0.12, -0.03, 0.14), (0, -0.16, 0.18), (0, 0.0, 0.14)):
            pen.oval(x, y, r, r, dark)
        for x, y, r in ((-0.12, -0.05, 0.125), (0.11, -0.05, 0.125), (-0.01, -0.17, 0.165), (0, -0.02, 0.12)):
            pen.oval(x, y, r, r, rgb)
        pen.oval(-0.06, -0.23, 0.06, 0.045, light)
    elif kind == "boat":
        pen.box(-0.014, -0.33, 0.014, 0.10, _WOOD)
        pen.fill([[0.03, -0.31], [0.27, 0.05], [0.03, 0.05]], WHITE)
        pen.fill([[-0.03, -0.24], [-0.19, 0.05], [-0.03, 0.05]], (226, 226, 220))
        pen.fill([[-0.31, 0.09], [0.31, 0.09], [0.21, 0.25], [-0.20, 0.25]], rgb)
        pen.fill([[-0.31, 0.09], [0.31, 0.09], [0.295, 0.125], [-0.29, 0.125]], light)
    elif kind == "cup":
        pen.oval(0.19, 0.01, 0.115, 0.115, dark)
        pen.oval(0.19, 0.01, 0.07, 0.07, behind)
        pen.fill([[-0.20, -0.18], [0.20, -0.18], [0.155, 0.22], [-0.155, 0.22]], rgb)
        pen.fill([[-0.165, -0.12], [-0.12, -0.12], [-0.10, 0.18], [-0.135, 0.18]], light)
        pen.oval(0, -0.18, 0.20, 0.052, light)
        pen.oval(0, -0.175, 0.168, 0.038, (84, 54, 40))
    elif kind == "car":
        pen.fill([[-0.19, -0.01], [-0.11, -0.18], [0.12, -0.18], [0.22, -0.01]], dark)
        pen.fill([[-0.14, -0.02], [-0.085, -0.145], [-0.01, -0.145], [-0.01, -0.02]], (186, 220, 238))
        pen.fill([[0.025, -0.02], [0.025, -0.145], [0.095, -0.145], [0.16, -0.02]], (186, 220, 238))
        pen.fill(oval(0, 0.075, 0.335, 0.105, power=3.6), rgb)
        pen.oval(0.295, 0.045, 0.025, 0.025, (252, 236, 160))
        pen.box(-0.30, 0.075, 0.30, 0.09, dark)
        for x in (-0.18, 0.18):
            pen.oval(x, 0.165, 0.088, 0.088, INK)
            pen.oval(x, 0.165, 0.040, 0.040, (200, 202, 208))
    elif kind == "flower":
        green = (64, 138, 66)
        pen.line(np.array([[0.0, 0.0], [0.012, 0.15], [0.0, 0.33]]), 0.032, green)
        pen.fill(oval(-0.085, 0.205, 0.085, 0.034, 0.5), green)
        pen.fill(oval(0.085, 0.165, 0.085, 0.034, -0.5), shade(green, 0.85))
        for angle in np.linspace(0, 2 * np.pi, 7, endpoint=False):
            cx, cy = 0.145 * np.cos(angle), -0.11 + 0.145 * np.sin(angle)
            pen.fill(oval(cx, cy, 0.092, 0.062, angle), rgb)
            pen.fill(oval(cx * 0.9, -0.11 + (cy + 0.11) * 0.9, 0.05, 0.022, angle), dark, 0.35)
        pen.oval(0, -0.11, 0.078, 0.078, (250, 222, 110) if rgb[0] < 230 or rgb[2] > 100 else _WOOD)
    elif kind == "book":
        pen.fill([[-0.22, -0.28], [0.18, -0.28], [0.18, 0.24], [-0.22, 0.24]], dark)
        pen.fill([[-0.18, 0.19], [0.22, 0.19], [0.22, 0.26], [-0.18, 0.26]], WHITE)
        pen.fill([[0.18, -0.27], [0.22, -0.24], [0.22, 0.22], [0.18, 0.22]], (232, 230, 222))
        pen.box(-0.22, -0.28, 0.18, 0.21, rgb)
        pen.box(-0.22, -0.28, -0.165, 0.21, dark)
        pen.box(-0.11, -0.20, 0.13, -0.08, (246, 238, 214))
        pen.box(-0.085, -0.165, 0.105, -0.145, dark)
        pen.box(-0.06, -0.13, 0.08, -0.115, dark)
    else:
        pen.box(-0.29, -0.18, 0.29, 0.20, (246, 242, 230))
        pen.fill([[-0.29, 0.20], [-0.06, -0.01], [0.06, -0.01], [0.29, 0.20]], (228, 222, 206))
        pen.fill([[-0.29, -0.18], [0.29, -0.18], [0, 0.06]], (252, 250, 242))
        pen.line([[-0.29, -0.18], [0, 0.06], [0.29, -0.18]], 0.012, (176, 168, 150))
        pen.oval(0, 0.055, 0.070, 0.070, rgb)
        pen.line(arc(0, 0.055, 0.036, 0.036, 0, 330), 0.012, dark)
