"""Draws faces from looks, which descriptions name, and geometry, which none does."""

from __future__ import annotations

import numpy as np
from PIL import Image

from .drawing import INK, WHITE, Pen, Rgb, arc, mix, oval, shade, stroke
from .people import GEOMETRY, Looks

HAIR_RGB = {"black": (40, 36, 44), "brown": (132, 82, 44), "blond": (232, 196, 108), "red": (196, 78, 34)}
SKIN_RGB = {"pale": (252, 222, 200), "tan": (222, 170, 124), "dark": (122, 78, 56)}
IRIS_RGB = {"black": (74, 50, 36), "brown": (96, 72, 38), "blond": (70, 120, 168), "red": (70, 126, 92)}
LIPS_RGB = {"pale": (204, 92, 92), "tan": (182, 78, 72), "dark": (142, 58, 60)}
FRAME_RGB: Rgb = (30, 30, 38)
MOUTH = 0.185


def _values(geometry: tuple[float, ...]) -> dict[str, float]:
    return dict(zip(GEOMETRY, geometry, strict=True))


def draw_face(
    image: Image.Image, looks: Looks, geometry: tuple[float, ...], shirt: Rgb, jitter: tuple[float, ...]
) -> None:
    """Draws one person from the shoulders up on an image of the canvas' size."""
    g = _values(geometry)
    pen = _pen(image, jitter)
    head = _Head(g)
    skin, hair = SKIN_RGB[looks.skin], HAIR_RGB[looks.hair]
    _back_hair(pen, head, g, hair)
    _bust(pen, head, skin, shirt)
    _head(pen, head, g, skin)
    if looks.beard:
        _beard(pen, head, hair)
    _nose(pen, g, skin)
    _mouth(pen, g, LIPS_RGB[looks.skin], beard=looks.beard)
    _eyes(pen, g, skin, looks, hair)
    _front_hair(pen, head, g, hair)
    _brows(pen, g, hair)
    if looks.glasses:
        _glasses(pen, head, g)


def face_box(geometry: tuple[float, ...], jitter: tuple[float, ...]) -> tuple[float, float, float, float]:
    """Where `draw_face` puts a face, as face detectors cut it out: its outline without hair and ears.

    Returns:
        Left, top, right and bottom, as shares of the picture's side, inside it.
    """
    head = _Head(_values(geometry))
    corners = np.array([[x, y] for x in (-head.width, head.width) for y in (head.top, head.chin)])
    placed = np.clip(_pen(Image.new("RGB", (1, 1)), jitter).placed(corners), 0, 1)
    left, top = placed.min(0).tolist()
    right, bottom = placed.max(0).tolist()
    return left, top, right, bottom


def _pen(image: Image.Image, jitter: tuple[float, ...]) -> Pen:
    return Pen(image, jitter, (0.5, 0.5), 1.22)


class _Head:
    """The outline of a head without hair."""

    def __init__(self, g: dict[str, float]) -> None:
        self.width = 0.222 + 0.036 * g["face_width"]
        self.top = -0.27
        self.chin = 0.292 + 0.034 * g["face_length"]
        t = np.linspace(0, np.pi, 40)
        power = 2.4 + 0.9 * g["jaw"]
        self.lower = np.stack(
            [
                self.width * np.sign(np.cos(t)) * np.abs(np.cos(t)) ** (2 / power),
                self.chin * np.sin(t) ** (2 / min(power, 2.5)),
            ],
            1,
        )
        self.upper = np.stack([-self.width * np.cos(t), self.top * np.sin(t)], 1)
        self.outline = np.concatenate([self.lower, self.upper])


def _back_hair(pen: Pen, head: _Head, g: dict[str, float], hair: Rgb) -> None:
    volume = 0.052 + 0.03 * g["hair_volume"]
    length = 0.5 * (g["hair_length"] + 1)
    bottom = 0.02 + 0.46 * length
    side = head.width + volume * 0.95
    t = np.linspace(np.pi, 2 * np.pi, 30)
    crown = np.stack([side * np.cos(t), (head.top - volume) * -np.sin(t)], 1)
    flare = side * (0.94 + 0.12 * length)
    curve = np.linspace(-1, 1, 14)[::-1]
    below = np.stack([flare * curve, bottom + 0.035 * np.sqrt(np.maximum(0, 1 - curve**2))], 1)
    pen.fill(np.concatenate([crown, below]), shade(hair, 0.74))


def _bust(pen: Pen, head: _Head, skin: Rgb, shirt: Rgb) -> None:
    body = np.array([[-0.44, 0.62], [-0.42, 0.50], [-0.34, 0.44], [-0.12, 0.395], [0.12, 0.395], [0.34, 0.44]])
    body = np.concatenate([body, [[0.42, 0.50], [0.44, 0.62]]])
    pen.fill(body, shirt)
    pen.fill([[0.12, 0.395], [0.34, 0.44], [0.42, 0.50], [0.44, 0.62], [0.26, 0.62], [0.24, 0.50]], shade(shirt, 0.82))
    pen.fill(oval(0, 0.395, 0.128, 0.075), shade(shirt, 0.66))
    pen.fill([[-0.092, 0.15], [0.092, 0.15], [0.098, 0.39], [-0.098, 0.39]], shade(skin, 0.86))
    pen.fill(oval(0, 0.392, 0.099, 0.052), shade(skin, 0.86))
    shadow = np.stack([0.094 * np.linspace(-1, 1, 12), head.chin + 0.055 - 0.03 * np.linspace(-1, 1, 12) ** 2], 1)
    pen.fill(np.concatenate([[[-0.094, 0.2]], shadow, [[0.094, 0.2]]]), shade(skin, 0.70))


def _head(pen: Pen, head: _Head, g: dict[str, float], skin: Rgb) -> None:
    ear = 0.028 + 0.019 * (g["ears"] + 1)
    for side in (-1, 1):
        x = side * (head.width + 0.35 * ear)
        pen.fill(oval(x, 0.025, ear * 0.78, ear * 1.3, side * 0.16), shade(skin, 0.92 if side < 0 else 0.84))
        pen.fill(oval(x + side * 0.1 * ear, 0.025, ear * 0.4, ear * 0.8, side * 0.16), shade(skin, 0.76))
    pen.fill(head.outline, shade(skin, 0.88))
    pen.fill(head.outline * (0.955, 0.985) + (-0.010, -0.005), skin)
    flush = mix(skin, (232, 96, 88), 0.30)
    for side in (-1, 1):
        pen.fill(oval(side * head.width * 0.60 - 0.006, 0.105, 0.052, 0.034), flush, 0.55)


def _eyes(pen: Pen, g: dict[str, float], skin: Rgb, looks: Looks, hair: Rgb) -> None:
    x0, y0, radius, slant = _eye_places(g)
    iris = IRIS_RGB[looks.hair]
    c, s = np.cos(slant), np.sin(slant)
    wide, high, low = radius * 1.32, radius * 0.80, radius * 0.58
    u = np.linspace(-1, 1, 17)
    lid = 1 - np.abs(u) ** 2.2
    upper, lower = np.stack([wide * u, -high * lid], 1), np.stack([wide * u, low * lid], 1)
    lash = mix(INK, hair, 0.15)
    for side in (-1, 1):
        turn = np.array([[c, -side * s], [side * s, c]])

        def place(points: np.ndarray, side: int = side, turn: np.ndarray = turn) -> np.ndarray:
            return points @ turn + (side * x0, y0)

        pen.fill(place(stroke(upper - (0, 0.26 * radius), 0.010, 0.2)), shade(skin, 0.74))
        pen.fill(place(np.concatenate([upper, lower[::-1]])), WHITE)
        for size, rgb in ((0.60, shade(iris, 0.7)), (0.50, iris), (0.27, (24, 20, 26))):
            circle = oval(0, -0.06 * radius, size * radius, size * radius * 1.06, count=24)
            within = 1 - np.minimum(1, np.abs(circle[:, 0]) / wide) ** 2.2
            circle[:, 1] = np.clip(circle[:, 1], -high * within, low * within)
            pen.fill(place(circle), rgb)
        pen.fill(place(oval(-0.17 * radius, -0.26 * radius, 0.15 * radius, 0.15 * radius, count=12)), WHITE)
        pen.fill(place(stroke(upper, 0.021, 0.5)), lash)
        pen.fill(place(stroke(lower, 0.007, 0.4)), shade(skin, 0.66))


def _eye_places(g: dict[str, float]) -> tuple[float, float, float, float]:
    """Distance from the middle, height, radius and slant of the eyes."""
    return (
        0.098 + 0.022 * g["eye_spacing"],
        0.005 + 0.030 * g["eye_height"],
        0.046 + 0.011 * g["eye_size"],
        np.deg2rad(13 * g["eye_slant"]),
    )


def _brows(pen: Pen, g: dict[str, float], hair: Rgb) -> None:
    x0, y0, radius, _ = _eye_places(g)
    y = y0 - radius * 0.8 - 0.044 - 0.018 * g["brow_gap"]
    angle = np.deg2rad(15 * g["brow_angle"] - 1.5)
    u = np.linspace(-1, 1, 14)
    for side in (-1, 1):
        x = 0.068 * u
        curve = np.stack([x, -0.016 * (1 - u**2)], 1)
        turn = np.array([[np.cos(angle), -side * np.sin(angle)], [side * np.sin(angle), np.cos(angle)]])
        pen.fill(
            stroke(curve @ turn + (side * x0, y), 0.029 + 0.016 * g["brow_thickness"], 0.5),
            shade(mix(hair, INK, 0.25), 0.80),
        )


def _nose(pen: Pen, g: dict[str, float], skin: Rgb) -> None:
    tip = 0.082 + 0.032 * g["nose_length"]
    wide = 0.045 + 0.021 * g["nose_width"]
    bridge = np.array([[0.012, -0.01], [0.020, 0.03], [wide * 0.9, tip - 0.012], [wide * 0.5, tip + 0.012], [0.0, tip]])
    pen.fill(bridge, shade(skin, 0.83))
    pen.fill(oval(0, tip, wide, 0.024), shade(skin, 0.80))
    pen.fill(oval(-0.004, tip - 0.008, wide * 0.84, 0.021), mix(skin, WHITE, 0.10))
    for side in (-1, 1):
        pen.fill(oval(side * wide * 0.55, tip + 0.010, wide * 0.24, 0.0075, count=14), shade(skin, 0.58))


def _mouth(pen: Pen, g: dict[str, float], lips: Rgb, beard: bool) -> None:
    wide = 0.086 + 0.034 * g["mouth_width"]
    curve = 0.026 * g["mouth_curve"] + 0.011
    full = 0.024 + 0.013 * g["lips"]
    u = np.linspace(-1, 1, 21)
    middle = np.stack([wide * u, MOUTH + curve * (0.5 - u**2)], 1)
    bow = full * (1 - np.abs(u) ** 1.8) * (1 - 0.35 * np.exp(-((u / 0.16) ** 2)))
    upper = middle - np.stack([0 * u, bow], 1)
    lower = middle + np.stack([0 * u, full * 1.25 * (1 - np.abs(u) ** 2.4)], 1)
    pen.fill(np.concatenate([upper, middle[::-1]]), shade(lips, 0.86))
    pen.fill(np.concatenate([lower, middle[::-1]]), mix(lips, WHITE, 0.10))
    pen.fill(stroke(middle, 0.011, 0.5), shade(lips, 0.45))


def _beard(pen: Pen, head: _Head, hair: Rgb) -> None:
    w = head.width
    outer = np.concatenate([[[w * 1.015, 0.02]], head.lower * (1.02, 1.055), [[-w * 1.015, 0.02]]])
    outer = outer[outer[:, 1] >= 0.02]
    u = np.linspace(-1, 1, 25)
    inner = np.stack([w * 0.90 * u, 0.126 - 0.110 * np.abs(u) ** 4 + 0.022 * (1 - np.cos(2 * np.pi * u)) / 2], 1)
    pen.fill(np.concatenate([outer, inner]), hair)
    pen.fill(stroke(np.stack([0.10 * u, 0.146 + 0.030 * u**2], 1), 0.030, 0.5), shade(hair, 0.86))


def _front_hair(pen: Pen, head: _Head, g: dict[str, float], hair: Rgb) -> None:
    volume = 0.052 + 0.03 * g["hair_volume"]
    edge = head.width * 1.02
    fringe = -0.165 + 0.045 * g["fringe"]
    part = 0.70 * g["parting"] * head.width
    t = np.linspace(0, np.pi, 40)
    crown = np.stack([-(head.width + 0.8 * volume) * np.cos(t), -0.03 + (head.top - volume + 0.03) * np.sin(t)], 1)
    x = np.linspace(edge, -edge, 41)
    lift = 0.075 * np.exp(-(((x - part) / 0.055) ** 2))
    fall = 0.06 * (np.abs(x - part) / (edge + abs(part))) ** 1.5
    hem = np.stack([x, np.minimum(fringe - lift + fall, -0.02)], 1)
    temples = np.array([[edge, 0.03], [edge * 0.93, 0.0]]), np.array([[-edge * 0.93, 0.0], [-edge, 0.03]])
    pen.fill(np.concatenate([crown, temples[0], hem[1:-1], temples[1]]), hair)
    root = np.array([part, head.top - 0.2 * volume])
    light, dark = mix(hair, WHITE, 0.22), shade(hair, 0.78)
    for way, end, rgb in ((-1, 0.86, light), (-1, 0.50, dark), (1, 0.50, light), (1, 0.86, dark)):
        target = np.array([way * edge * end, fringe - 0.015 + 0.045 * end])
        if way * (target[0] - part) < 0.05:
            continue
        s = np.linspace(0.18, 0.92, 12)[:, None]
        bend = np.array([0.0, -0.03]) * 4 * s * (1 - s)
        pen.fill(stroke(root + (target - root) * s + bend, 0.014, 0.1), rgb, 0.75)


def _glasses(pen: Pen, head: _Head, g: dict[str, float]) -> None:
    x0, y0, _, _ = _eye_places(g)
    half = 0.080
    for side in (-1, 1):
        lens = oval(side * (x0 + 0.002), y0 + 0.006, half, 0.070, power=2.8, count=40)
        pen.fill(lens, (214, 232, 246), 0.16)
        pen.ring(lens, 0.0165, FRAME_RGB)
        pen.line([[side * (x0 + half), y0 - 0.012], [side * head.width * 1.01, y0 - 0.018]], 0.0165, FRAME_RGB)
    pen.line(arc(0, y0 + 0.004, max(0.012, x0 - half + 0.004), 0.018, 180, 360, 9), 0.0165, FRAME_RGB)
