"""Draws the named places of the demo's world, each with a look of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image

from .drawing import WHITE, Pen, Rgb, arc, gradient, mix, shade

_SKY: Rgb = (150, 200, 238)


def _sky(top: Rgb, bottom: Rgb) -> Image.Image:
    return gradient(top, bottom)


def _lighthouse(pen: Pen, j: Sequence[float]) -> None:
    pen.box(-0.5, 0.16, 0.5, 0.6, (58, 126, 184))
    pen.fill([[-0.5, 0.6], [-0.2, 0.14], [0.28, 0.10], [0.36, 0.6]], (112, 104, 98))
    x = 0.04
    pen.fill([[x - 0.085, 0.14], [x - 0.055, -0.26], [x + 0.055, -0.26], [x + 0.085, 0.14]], WHITE)
    for y in (-0.19, -0.03, 0.13):
        w = 0.071 + 0.075 * (y + 0.07) / 1.0
        pen.fill(
            [
                [x - w - 0.004, y - 0.01],
                [x - w + 0.005, y - 0.09],
                [x + w - 0.005, y - 0.09],
                [x + w + 0.004, y - 0.01],
            ],
            (206, 52, 52),
        )
    pen.box(x - 0.045, -0.33, x + 0.045, -0.25, (252, 232, 140))
    pen.fill([[x - 0.06, -0.33], [x, -0.41], [x + 0.06, -0.33]], (176, 40, 44))
    pen.fill([[x, -0.29], [-0.55, -0.38], [-0.55, -0.22]], (255, 244, 190), 0.4)


def _castle(pen: Pen, j: Sequence[float]) -> None:
    pen.fill([[-0.6, 0.6], [-0.6, 0.3], [-0.2, 0.12], [0.25, 0.14], [0.6, 0.32], [0.6, 0.6]], (98, 152, 84))
    wall = (176, 170, 178)
    for x, top, w in ((-0.25, -0.16, 0.075), (0.25, -0.16, 0.075), (0.0, -0.26, 0.085)):
        pen.box(x - w, top, x + w, 0.24, shade(wall, 0.92 if x else 1.02))
        pen.fill([[x - w - 0.02, top], [x, top - 0.17], [x + w + 0.02, top]], (74, 84, 158))
        pen.box(x - 0.018, top + 0.06, x + 0.018, top + 0.13, (66, 62, 80))
    pen.box(-0.25, 0.0, 0.25, 0.26, wall)
    for x in np.linspace(-0.22, 0.22, 6):
        pen.box(x - 0.022, -0.04, x + 0.022, 0.01, wall)
    pen.fill(np.concatenate([arc(0, 0.13, 0.06, 0.07, 180, 360), [[0.06, 0.26], [-0.06, 0.26]]]), (88, 58, 44))


def _windmill(pen: Pen, j: Sequence[float]) -> None:
    pen.box(-0.6, 0.22, 0.6, 0.6, (128, 178, 92))
    for i in range(5):
        pen.box(-0.6, 0.28 + 0.07 * i, 0.6, 0.305 + 0.07 * i, ((232, 86, 110), (250, 208, 90), (236, 120, 60))[i % 3])
    pen.fill([[-0.12, 0.26], [-0.075, -0.14], [0.075, -0.14], [0.12, 0.26]], (236, 226, 208))
    pen.fill([[-0.095, -0.13], [0, -0.25], [0.095, -0.13]], (130, 74, 52))
    pen.box(-0.03, 0.12, 0.03, 0.26, (110, 74, 52))
    for k in range(4):
        angle = np.deg2rad(32 + 6 * j[4] + 90 * k)
        way, across = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
        hub = np.array([0.0, -0.12])
        pen.fill([hub, hub + 0.32 * way, hub + 0.32 * way + 0.075 * across, hub + 0.08 * way + 0.075 * across], WHITE)
        pen.line([hub, hub + 0.34 * way], 0.016, (96, 66, 50))
    pen.oval(0, -0.12, 0.022, 0.022, (96, 66, 50))


def _pyramid(pen: Pen, j: Sequence[float]) -> None:
    pen.oval(0.30, -0.30, 0.08, 0.08, (255, 236, 150))
    pen.box(-0.6, 0.18, 0.6, 0.6, (230, 190, 118))
    for x, s in ((0.24, 0.24), (-0.10, 0.40)):
        y = 0.24
        pen.fill([[x - s, y], [x, y - 1.18 * s], [x + s, y]], (226, 176, 96))
        pen.fill([[x, y - 1.18 * s], [x + s, y], [x + 0.22 * s, y]], (180, 132, 70))
    pen.oval(-0.4, 0.46, 0.4, 0.1, (216, 172, 100))


def _volcano(pen: Pen, j: Sequence[float]) -> None:
    for x, y, r in ((0.0, -0.26, 0.09), (0.07, -0.34, 0.10), (-0.06, -0.38, 0.10), (0.12, -0.43, 0.11)):
        pen.oval(x + 0.02 * j[4], y, r, r * 0.8, (120, 108, 116))
    pen.fill([[-0.5, 0.36], [-0.12, -0.16], [0.12, -0.16], [0.5, 0.36]], (82, 64, 66))
    pen.fill([[-0.12, -0.16], [0.12, -0.16], [0.09, -0.10], [-0.09, -0.10]], (250, 130, 50))
    pen.fill([[-0.05, -0.12], [0.05, -0.12], [0.10, 0.36], [-0.10, 0.36], [-0.02, 0.08]], (236, 84, 38))
    pen.fill([[0.05, -0.12], [0.10, -0.13], [0.26, 0.30], [0.18, 0.30]], (250, 146, 56))
    pen.box(-0.6, 0.33, 0.6, 0.6, (60, 54, 62))


def _bridge(pen: Pen, j: Sequence[float]) -> None:
    pen.box(-0.6, 0.16, 0.6, 0.6, (74, 150, 190))
    rust = (206, 74, 48)
    for x in (-0.24, 0.24):
        pen.box(x - 0.03, -0.32, x + 0.03, 0.30, rust)
        pen.box(x - 0.05, 0.22, x + 0.05, 0.32, (134, 130, 130))
    u = np.linspace(-1, 1, 17)
    pen.line(np.stack([0.24 * u, 0.06 - 0.34 * u**2], 1), 0.016, rust)
    for side in (-1, 1):
        v = np.linspace(0, 1, 10)
        pen.line(np.stack([side * (0.24 + 0.36 * v), -0.28 + 0.38 * v**0.8], 1), 0.016, rust)
    for x in np.linspace(-0.19, 0.19, 7):
        pen.line([[x, 0.06 - 0.34 * (x / 0.24) ** 2], [x, 0.11]], 0.009, rust)
    pen.box(-0.6, 0.09, 0.6, 0.135, shade(rust, 0.8))


def _falls(pen: Pen, j: Sequence[float]) -> None:
    pen.fill([[-0.6, -0.12], [-0.13, -0.17], [-0.11, 0.34], [-0.6, 0.34]], (92, 124, 84))
    pen.fill([[0.6, -0.16], [0.13, -0.18], [0.11, 0.34], [0.6, 0.34]], (82, 112, 78))
    pen.box(-0.6, -0.20, -0.13, -0.11, (72, 158, 80))
    pen.box(0.13, -0.22, 0.6, -0.14, (72, 158, 80))
    pen.fill([[-0.14, -0.17], [0.14, -0.17], [0.16, 0.36], [-0.16, 0.36]], (198, 230, 246))
    for x in (-0.09, -0.03, 0.04, 0.10):
        pen.line([[x, -0.17], [1.1 * x, 0.34]], 0.02, WHITE)
    pen.box(-0.6, 0.31, 0.6, 0.6, (70, 156, 186))
    for x in (-0.14, -0.05, 0.05, 0.14):
        pen.oval(x, 0.32, 0.085, 0.045, WHITE)


def _lake(pen: Pen, j: Sequence[float]) -> None:
    pen.fill([[-0.6, 0.08], [-0.34, -0.14], [-0.12, 0.0], [0.14, -0.2], [0.42, -0.04], [0.6, 0.08]], (122, 108, 168))
    pen.box(-0.6, 0.06, 0.6, 0.6, (112, 196, 196))
    pen.oval(0, 0.22, 0.24, 0.065, (120, 168, 88))
    pen.box(-0.018, -0.04, 0.018, 0.20, (96, 64, 60))
    for x, y, r in ((-0.08, -0.08, 0.10), (0.08, -0.08, 0.10), (0, -0.16, 0.11)):
        pen.oval(x, y, r, r, (240, 142, 178))
    pen.oval(-0.03, -0.19, 0.05, 0.04, (250, 188, 208))
    for y in (0.34, 0.42):
        pen.box(-0.2 + y * 0.3, y, 0.1 + y * 0.3, y + 0.014, (186, 230, 226))


def _temple(pen: Pen, j: Sequence[float]) -> None:
    pen.box(-0.6, 0.28, 0.6, 0.6, (178, 186, 110))
    marble = (240, 234, 222)
    for k in range(3):
        pen.box(-0.40 + 0.03 * k, 0.29 - 0.035 * k, 0.40 - 0.03 * k, 0.33 - 0.035 * k, shade(marble, 0.86 + 0.05 * k))
    pen.box(-0.30, -0.06, 0.30, 0.22, (118, 104, 110))
    for x in np.linspace(-0.285, 0.285, 6):
        pen.box(x - 0.030, -0.08, x + 0.030, 0.225, marble)
        pen.box(x + 0.008, -0.06, x + 0.030, 0.225, shade(marble, 0.84))
    pen.box(-0.36, -0.135, 0.36, -0.075, marble)
    pen.fill([[-0.38, -0.135], [0, -0.31], [0.38, -0.135]], shade(marble, 0.92))
    pen.fill([[-0.24, -0.155], [0, -0.265], [0.24, -0.155]], (206, 150, 88))


def _clock_tower(pen: Pen, j: Sequence[float]) -> None:
    pen.box(-0.6, 0.30, 0.6, 0.6, (96, 128, 92))
    pen.box(-0.42, 0.08, 0.42, 0.34, (166, 128, 88))
    for x in np.linspace(-0.36, 0.36, 7):
        pen.box(x - 0.022, 0.14, x + 0.022, 0.26, (94, 72, 62))
    pen.box(-0.11, -0.24, 0.11, 0.34, (196, 156, 106))
    pen.fill([[-0.13, -0.24], [0, -0.46], [0.13, -0.24]], (70, 110, 104))
    pen.oval(0, -0.12, 0.088, 0.088, (74, 58, 50))
    pen.oval(0, -0.12, 0.074, 0.074, (252, 248, 226))
    pen.line([[0, -0.12], [0, -0.175]], 0.016, (40, 36, 40))
    pen.line([[0, -0.12], [0.042, -0.105]], 0.016, (40, 36, 40))


def _wheel(pen: Pen, j: Sequence[float]) -> None:
    pen.box(-0.6, 0.30, 0.6, 0.6, (54, 48, 84))
    for side in (-1, 1):
        pen.line([[0, -0.06], [side * 0.17, 0.34]], 0.026, (190, 190, 214))
    pen.ring(
        np.stack([0.27 * np.cos(np.linspace(0, 6.1, 40)), -0.06 + 0.27 * np.sin(np.linspace(0, 6.1, 40))], 1),
        0.022,
        (232, 232, 246),
    )
    for k in range(8):
        angle = 2 * np.pi * k / 8 + 0.1 * j[4]
        x, y = 0.27 * np.cos(angle), -0.06 + 0.27 * np.sin(angle)
        pen.line([[0, -0.06], [x, y]], 0.010, (190, 190, 214))
        pen.oval(x, y + 0.02, 0.045, 0.045, ((240, 84, 110), (250, 206, 80), (92, 204, 214), (150, 220, 110))[k % 4])
    pen.oval(0, -0.06, 0.035, 0.035, (250, 206, 80))


def _arch(pen: Pen, j: Sequence[float]) -> None:
    pen.box(-0.6, 0.24, 0.6, 0.6, (206, 118, 74))
    rock = (188, 88, 56)
    outer = np.concatenate([arc(0, 0.04, 0.36, 0.32, 180, 360), [[0.40, 0.34], [-0.40, 0.34]]])
    pen.fill(outer, rock)
    pen.fill(arc(-0.02, 0.0, 0.34, 0.26, 200, 340), shade(rock, 1.16), 0.8)
    pen.fill(np.concatenate([arc(0.02, 0.08, 0.18, 0.20, 180, 360), [[0.20, 0.31], [-0.16, 0.31]]]), (214, 226, 232))
    pen.box(-0.16, 0.24, 0.20, 0.34, (206, 118, 74))
    pen.box(-0.55, 0.10, -0.45, 0.34, shade(rock, 0.8))


def _palace(pen: Pen, j: Sequence[float]) -> None:
    pen.box(-0.6, 0.28, 0.6, 0.6, (146, 112, 140))
    wall, dome = (250, 226, 196), (56, 168, 160)
    for x, y, r in ((-0.26, 0.0, 0.095), (0.26, 0.0, 0.095), (0, -0.10, 0.15)):
        onion = np.array([[0, -1.7], [0.18, -1.2], [0.75, -0.75], [1.0, -0.2], [0.8, 0.3], [-0.8, 0.3], [-1.0, -0.2]])
        onion = np.concatenate([onion, [[-0.75, -0.75], [-0.18, -1.2]]])
        pen.box(x - r * 0.85, y, x + r * 0.85, 0.30, shade(wall, 0.94 if x else 1.0))
        pen.fill(onion * r + (x, y), dome)
        pen.fill(onion * (0.4, 0.9) * r + (x - 0.25 * r, y), mix(dome, WHITE, 0.25))
    pen.box(-0.36, 0.12, 0.36, 0.30, wall)
    for x in (-0.24, 0.0, 0.24):
        pen.fill(
            np.concatenate([arc(x, 0.19, 0.045, 0.05, 180, 360), [[x + 0.045, 0.30], [x - 0.045, 0.30]]]),
            (124, 80, 110),
        )


def _pagoda(pen: Pen, j: Sequence[float]) -> None:
    pen.fill([[-0.6, 0.32], [-0.2, 0.26], [0.6, 0.34], [0.6, 0.6], [-0.6, 0.6]], (236, 240, 246))
    for k, w in enumerate((0.20, 0.16, 0.12)):
        y = 0.14 - 0.18 * k
        pen.box(-w * 0.72, y, w * 0.72, y + 0.13, (192, 52, 54))
        for x in (-0.4, 0.0, 0.4):
            pen.box(x * w - 0.016, y + 0.03, x * w + 0.016, y + 0.10, (252, 226, 150))
        roof = [[-w * 1.5, y - 0.02], [-w * 1.15, y + 0.015], [w * 1.15, y + 0.015], [w * 1.5, y - 0.02]]
        pen.fill([*roof, [w * 0.6, y - 0.075], [-w * 0.6, y - 0.075]], (52, 58, 74))
    pen.line([[0, -0.28], [0, -0.42]], 0.018, (230, 190, 90))
    pen.box(-0.17, 0.26, 0.17, 0.31, (124, 112, 112))


_Drawn = Callable[[Pen, Sequence[float]], None]
LANDMARKS: dict[str, tuple[Rgb, Rgb, _Drawn]] = {
    "Cape Orrin": ((120, 176, 220), (218, 234, 240), _lighthouse),
    "Castle Brannoch": (_SKY, (230, 240, 248), _castle),
    "Tarnwick Mill": ((136, 196, 240), (240, 244, 230), _windmill),
    "the Zehur Pyramid": ((244, 178, 110), (252, 226, 170), _pyramid),
    "Mount Karuk": ((72, 52, 82), (196, 104, 84), _volcano),
    "Lumen Bridge": ((172, 190, 206), (236, 226, 214), _bridge),
    "Sarra Falls": ((140, 206, 226), (226, 242, 236), _falls),
    "Lake Ondra": ((186, 170, 226), (250, 214, 214), _lake),
    "the Temple of Ilos": ((96, 160, 222), (206, 228, 240), _temple),
    "Wexham Tower": ((206, 184, 206), (248, 226, 196), _clock_tower),
    "Jolliet Pier": ((30, 28, 76), (112, 70, 128), _wheel),
    "Redgate Arch": ((132, 182, 222), (236, 226, 206), _arch),
    "the Palace of Suri": ((250, 198, 180), (252, 232, 206), _palace),
    "Kinto Pagoda": ((190, 208, 226), (240, 226, 232), _pagoda),
}
"""Named places: the colours of the sky above and below, and what stands there."""


def draw_landmark(name: str, jitter: tuple[float, ...]) -> Image.Image:
    """One of `LANDMARKS` on a canvas."""
    top, bottom, drawn = LANDMARKS[name]
    image = _sky(top, bottom)
    drawn(Pen(image, jitter, reach=1.2), jitter)
    return image
