"""Draws polygons, curves and ovals in a frame of its own on a canvas four times as large as the picture."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

SIZE = 96
SCALE = 3
CANVAS = SIZE * SCALE

Rgb = tuple[int, int, int]
INK: Rgb = (44, 40, 50)
WHITE: Rgb = (248, 247, 242)


def shade(rgb: Rgb, factor: float) -> Rgb:
    """Darker below one, lighter above."""
    return tuple(int(min(255, max(0, c * factor))) for c in rgb)


def mix(one: Rgb, other: Rgb, share: float) -> Rgb:
    """`share` of the other colour in the one."""
    return tuple(int(a + (b - a) * share) for a, b in zip(one, other, strict=True))


def oval(
    cx: float, cy: float, rx: float, ry: float, angle: float = 0.0, power: float = 2.0, count: int = 36
) -> np.ndarray:
    """A (super)ellipse as a polygon [count, 2]: `power` above two is squarer."""
    t = np.linspace(0, 2 * np.pi, count, endpoint=False)
    x = rx * np.sign(np.cos(t)) * np.abs(np.cos(t)) ** (2 / power)
    y = ry * np.sign(np.sin(t)) * np.abs(np.sin(t)) ** (2 / power)
    c, s = np.cos(angle), np.sin(angle)
    return np.stack([cx + c * x - s * y, cy + s * x + c * y], 1)


def stroke(points: np.ndarray, width: float, ends: float = 0.55) -> np.ndarray:
    """A curve with thickness, as a closed polygon; at its ends `ends` of that thickness is left."""
    direction = np.gradient(points, axis=0)
    normal = np.stack([-direction[:, 1], direction[:, 0]], 1)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-9
    half = (0.5 * width * (ends + (1 - ends) * np.sin(np.linspace(0, np.pi, len(points)))))[:, None]
    return np.concatenate([points + normal * half, (points - normal * half)[::-1]])


def arc(cx: float, cy: float, rx: float, ry: float, start: float, end: float, count: int = 20) -> np.ndarray:
    """A part of an ellipse from angle `start` to `end`, in degrees, clockwise on the canvas from the right."""
    t = np.deg2rad(np.linspace(start, end, count))
    return np.stack([cx + rx * np.cos(t), cy + ry * np.sin(t)], 1)


class Pen:
    """Draws in coordinates of a unit square whose middle is 0, moved, sized and turned by a picture's jitter."""

    def __init__(
        self,
        image: Image.Image,
        jitter: Sequence[float] = (0.0,) * 6,
        centre: tuple[float, float] = (0.5, 0.5),
        size: float = 1.0,
        reach: float = 1.0,
    ) -> None:
        self._opaque = ImageDraw.Draw(image)
        self._glaze = ImageDraw.Draw(image, "RGBA")
        self._offset = np.array([centre[0] + 0.025 * reach * jitter[0], centre[1] + 0.02 * reach * jitter[1]])
        angle = np.deg2rad(4.0 * reach * jitter[3])
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        self._map = size * (1.0 + 0.04 * reach * jitter[2]) * turn

    def placed(self, points: np.ndarray | Sequence[Sequence[float]]) -> np.ndarray:
        """Where points [n, 2] come to lie, as shares of the canvas' side."""
        return np.asarray(points) @ self._map + self._offset

    def fill(self, points: np.ndarray | Sequence[Sequence[float]], rgb: Rgb, alpha: float = 1.0) -> None:
        """A filled polygon [n, 2]; with `alpha` below one what lies below shines through."""
        placed = (self.placed(points) * CANVAS).ravel().tolist()
        if alpha >= 1.0:
            self._opaque.polygon(placed, fill=rgb)
        else:
            self._glaze.polygon(placed, fill=(*rgb, int(255 * alpha)))

    def box(self, x0: float, y0: float, x1: float, y1: float, rgb: Rgb, alpha: float = 1.0) -> None:
        """A filled rectangle."""
        self.fill([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], rgb, alpha)

    def oval(self, cx: float, cy: float, rx: float, ry: float, rgb: Rgb, alpha: float = 1.0) -> None:
        """A filled ellipse."""
        self.fill(oval(cx, cy, rx, ry), rgb, alpha)

    def line(self, points: np.ndarray | Sequence[Sequence[float]], width: float, rgb: Rgb, alpha: float = 1.0) -> None:
        """A curve of even thickness."""
        self.fill(stroke(np.asarray(points, dtype=float), width, 1.0), rgb, alpha)

    def ring(self, points: np.ndarray, width: float, rgb: Rgb) -> None:
        """The closed outline of a polygon."""
        self.line(np.concatenate([points, points[:2]]), width, rgb)


def gradient(top: Rgb, bottom: Rgb) -> Image.Image:
    """A canvas that goes from one colour above to another below."""
    column = np.linspace(top, bottom, CANVAS)[:, None]
    return Image.fromarray(np.broadcast_to(column, (CANVAS, CANVAS, 3)).astype(np.uint8))
