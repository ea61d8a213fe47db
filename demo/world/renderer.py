"""Draws the demo's world from known parameters: faces, shapes, objects and scenes at 64 px.

Everything a picture shows is in its `Picture` value, so whatever reads a picture can be checked against the truth.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from multiprocessing import Pool

import numpy as np
from PIL import Image, ImageDraw

from .people import GEOMETRY, HAIR, SKIN, Looks, Person, random_geometry

SIZE = 64
SCALE = 4
CANVAS = SIZE * SCALE

COLOURS = {
    "red": (206, 48, 48),
    "blue": (52, 92, 200),
    "green": (58, 150, 76),
    "yellow": (236, 200, 62),
    "purple": (134, 70, 168),
    "orange": (236, 132, 44),
}
PLACES = {
    "a garden": ((178, 216, 168), (92, 150, 80)),
    "the beach": ((150, 206, 236), (232, 210, 158)),
    "the city": ((176, 182, 192), (120, 124, 134)),
    "the snow": ((222, 232, 242), (246, 248, 252)),
    "the night": ((28, 34, 74), (44, 44, 66)),
    "a studio": ((206, 198, 190), (188, 180, 172)),
}
SHAPES = ("circle", "square", "triangle", "star")
OBJECTS = ("house", "tree", "boat", "cup", "car", "flower")
SCENES = ("mountains", "a sunset", "a rainbow", "a road")
HAIR_RGB = {"black": (34, 30, 36), "brown": (158, 102, 50), "blond": (228, 192, 104), "red": (190, 78, 30)}
SKIN_RGB = {"pale": (248, 218, 198), "tan": (222, 174, 132), "dark": (112, 72, 54)}
KINDS = ("person", *SHAPES, *OBJECTS, *SCENES)


@dataclass(frozen=True)
class Picture:
    """All that is needed to draw one picture. `geometry` and `looks` are set for persons only."""

    kind: str
    place: str
    colour: str
    looks: Looks | None = None
    geometry: tuple[float, ...] = ()
    person: int | None = None
    jitter: tuple[float, ...] = field(default=(0.0, 0.0, 0.0, 0.0, 0.0, 0.0))


def random_jitter(rng: np.random.Generator) -> tuple[float, ...]:
    """What changes from picture to picture of the same thing: shift x, y, size, tilt, light, tint; each in [-1, 1]."""
    return tuple(map(float, rng.uniform(-1, 1, 6)))


def random_looks(rng: np.random.Generator) -> Looks:
    """Looks drawn evenly from all that can be drawn."""
    return Looks(str(rng.choice(HAIR)), str(rng.choice(SKIN)), bool(rng.random() < 0.5), bool(rng.random() < 0.5))


def random_picture(rng: np.random.Generator, kind: str) -> Picture:
    """A picture of `kind` with everything else drawn at random (a person is a stranger)."""
    picture = Picture(kind, str(rng.choice(list(PLACES))), str(rng.choice(list(COLOURS))), jitter=random_jitter(rng))
    if kind != "person":
        return picture
    return replace(picture, looks=random_looks(rng), geometry=tuple(map(float, random_geometry(rng, 1)[0])))


def portrait(rng: np.random.Generator, looks: Looks, geometry: tuple[float, ...], person: int | None = None) -> Picture:
    """A picture of one face in a random place, shirt and pose."""
    return replace(random_picture(rng, "circle"), kind="person", looks=looks, geometry=geometry, person=person)


def picture_of(rng: np.random.Generator, person: Person, index: int) -> Picture:
    """A picture of one of the cast, `index` being their place in it."""
    return portrait(rng, person.looks, person.geometry, index)


def draw(picture: Picture) -> np.ndarray:
    """Draws a picture: uint8 [64, 64, 3]. The same value gives the same pixels."""
    image = _background(picture)
    pen = ImageDraw.Draw(image)
    if picture.kind == "person":
        _face(pen, picture)
    elif picture.kind in SHAPES:
        _shape(pen, picture)
    elif picture.kind in OBJECTS:
        _object(pen, picture)
    else:
        image = _scene(picture)
    light = 1.0 + 0.06 * picture.jitter[4]
    pixels = np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BOX), dtype=np.float32) * light
    return np.clip(pixels, 0, 255).astype(np.uint8)


def _shade(rgb: tuple[int, int, int], factor: float) -> tuple[int, int, int]:
    return tuple(int(np.clip(c * factor, 0, 255)) for c in rgb)


def _background(picture: Picture) -> Image.Image:
    top, bottom = PLACES[picture.place]
    tint = 1.0 + 0.05 * picture.jitter[5]
    image = Image.new("RGB", (CANVAS, CANVAS), _shade(top, tint))
    pen = ImageDraw.Draw(image)
    horizon = int(CANVAS * (0.62 + 0.06 * picture.jitter[5]))
    if picture.place == "the city":
        for i in range(6):
            height = (0.30, 0.52, 0.40, 0.58, 0.34, 0.46)[i]
            left = int((i / 6 - 0.02 + 0.02 * picture.jitter[5]) * CANVAS)
            pen.rectangle(
                (left, int(CANVAS * (1 - height - 0.2)), left + CANVAS // 7, CANVAS),
                fill=_shade((132, 138, 150), 1 - 0.06 * (i % 3)),
            )
    elif picture.place == "the night":
        for i in range(12):
            x, y = (37 * i + 11) % 61 / 61, (23 * i + 5) % 37 / 61
            pen.ellipse([CANVAS * x - 3, CANVAS * y - 3, CANVAS * x + 3, CANVAS * y + 3], fill=(230, 230, 200))
        pen.rectangle((0, horizon, CANVAS, CANVAS), fill=_shade(bottom, tint))
    elif picture.place == "a studio":
        image.paste(Image.linear_gradient("L").resize((CANVAS, CANVAS)).convert("RGB").point(lambda v: 214 - v // 5))
    else:
        pen.rectangle((0, horizon, CANVAS, CANVAS), fill=_shade(bottom, tint))
    return image


class _Frame:
    """Maps the face's own coordinates (unit square, centre at 0) to the canvas: shift, size and tilt of the head."""

    def __init__(self, jitter: tuple[float, ...], centre: tuple[float, float], size: float = 1.0) -> None:
        self.dx = centre[0] + 0.025 * jitter[0]
        self.dy = centre[1] + 0.02 * jitter[1]
        self.size = size * (1.0 + 0.04 * jitter[2])
        angle = np.deg2rad(4.0 * jitter[3])
        self.turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])

    def __call__(self, points: np.ndarray) -> list[tuple[float, float]]:
        moved = (np.asarray(points) * self.size) @ self.turn.T + (self.dx, self.dy)
        return [tuple(p) for p in moved * CANVAS]


def _ellipse(
    cx: float, cy: float, rx: float, ry: float, angle: float = 0.0, n: int = 40, power: float = 2.0
) -> np.ndarray:
    t = np.linspace(0, 2 * np.pi, n, endpoint=False)
    x = rx * np.sign(np.cos(t)) * np.abs(np.cos(t)) ** (2 / power)
    y = ry * np.sign(np.sin(t)) * np.abs(np.sin(t)) ** (2 / power)
    c, s = np.cos(angle), np.sin(angle)
    return np.stack([cx + c * x - s * y, cy + s * x + c * y], 1)


def _stroke(points: np.ndarray, width: float) -> np.ndarray:
    """A curve with thickness, as a closed polygon; thinner towards its ends."""
    direction = np.gradient(points, axis=0)
    normal = np.stack([-direction[:, 1], direction[:, 0]], 1)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-9
    half = (0.5 * width * (0.55 + 0.45 * np.sin(np.linspace(0, np.pi, len(points)))))[:, None]
    return np.concatenate([points + normal * half, (points - normal * half)[::-1]])


def _face(pen: ImageDraw.ImageDraw, picture: Picture) -> None:
    g = dict(zip(GEOMETRY, picture.geometry, strict=True))
    looks = picture.looks
    frame = _Frame(picture.jitter, (0.5, 0.51), 1.16)
    skin, hair = SKIN_RGB[looks.skin], HAIR_RGB[looks.hair]
    line = _shade(skin, 0.55)

    def fill(points: np.ndarray, rgb: tuple[int, int, int]) -> None:
        pen.polygon(frame(points), fill=rgb)

    half_width = 0.235 + 0.05 * g["face_width"]
    half_height = 0.30 + 0.045 * g["face_length"]
    chin = half_height
    # shoulders and neck
    fill(_ellipse(0, 0.56, 0.40, 0.20, power=2.6), COLOURS[picture.colour])
    fill(np.array([[-0.09, 0.18], [0.09, 0.18], [0.10, 0.42], [0, 0.47], [-0.10, 0.42]]), _shade(skin, 0.86))
    # hair behind the head
    fill(_ellipse(0, -0.06, half_width + 0.055, half_height + 0.03, power=2.3), _shade(hair, 0.9))
    # ears
    ear = 0.03 + 0.03 * (g["ears"] + 1) / 2 * 1.6
    for side in (-1, 1):
        fill(_ellipse(side * (half_width + 0.012), 0.03, ear * 0.75, ear * 1.25), _shade(skin, 0.9))
    # head: upper half round, lower half from pointed to square
    t = np.linspace(0, np.pi, 40)
    power = 2.35 + 0.95 * g["jaw"]
    lower = np.stack(
        [half_width * np.sign(np.cos(t)) * np.abs(np.cos(t)) ** (2 / power), chin * np.sin(t) ** (2 / power)], 1
    )
    upper = np.stack([-half_width * np.cos(t), -half_height * np.sin(t)], 1)
    outline = np.concatenate([lower, upper])
    fill(outline, skin)
    # beard
    mouth_y = 0.165
    if looks.beard:
        keep = lower[np.abs(lower[:, 1]) > 0.07]
        top = np.array(
            [[-half_width * 0.80, 0.10], [-0.08, mouth_y - 0.055], [0.08, mouth_y - 0.055], [half_width * 0.80, 0.10]]
        )
        fill(np.concatenate([keep, top]), hair)
    # hair in front: fringe height and parting
    fringe = -half_height * (0.60 - 0.24 * g["fringe"])
    part = 0.75 * g["parting"] * half_width
    x = np.linspace(-half_width * 1.04, half_width * 1.04, 30)
    sweep = fringe - 0.10 * np.exp(-(((x - part) / 0.07) ** 2)) + 0.05 * np.abs(x - part) / half_width
    crown = np.stack([-(half_width + 0.05) * np.cos(t), -0.02 - (half_height + 0.055) * np.sin(t)], 1)
    sides = np.array([[half_width * 1.04, 0.0]]), np.array([[-half_width * 1.04, 0.0]])
    fill(np.concatenate([crown, sides[0], np.stack([x, sweep], 1)[::-1], sides[1]]), hair)
    # eyes
    eye_x = 0.098 + 0.034 * g["eye_spacing"]
    eye_y = -0.02 + 0.035 * g["eye_height"]
    radius = 0.043 + 0.015 * g["eye_size"]
    opening = 0.72 + 0.26 * g["eye_opening"]
    slant = np.deg2rad(22 * g["eye_slant"])
    for side in (-1, 1):
        fill(_ellipse(side * eye_x, eye_y, radius * 1.28, radius * opening * 1.22, -side * slant), line)
        fill(_ellipse(side * eye_x, eye_y, radius * 1.12, radius * opening, -side * slant), (250, 250, 248))
        fill(_ellipse(side * eye_x, eye_y, radius * 0.52, radius * min(opening, 0.8) * 0.72), (40, 34, 40))
    # brows
    brow_y = eye_y - radius * opening - 0.042 - 0.022 * g["brow_gap"]
    angle = np.deg2rad(20 * g["brow_angle"])
    u = np.linspace(-1, 1, 12)
    for side in (-1, 1):
        bx = side * eye_x + 0.066 * u * np.cos(angle)
        by = brow_y - side * 0.066 * u * np.sin(angle) - 0.012 * (1 - u**2)
        fill(_stroke(np.stack([bx, by], 1), 0.030 + 0.017 * g["brow_thickness"]), _shade(hair, 0.62))
    # nose
    nose_y = 0.055 + 0.028 * g["nose_length"]
    nose_w = 0.038 + 0.020 * g["nose_width"]
    fill(
        np.array(
            [[-0.012, eye_y + 0.01], [0.012, eye_y + 0.01], [nose_w, nose_y], [0, nose_y + 0.022], [-nose_w, nose_y]]
        ),
        _shade(skin, 0.82),
    )
    fill(_ellipse(0, nose_y + 0.004, nose_w, 0.020), _shade(skin, 0.74))
    # mouth
    u = np.linspace(-1, 1, 16)
    mouth_w = 0.092 + 0.038 * g["mouth_width"]
    curve = 0.036 * g["mouth_curve"]
    mouth = np.stack([mouth_w * u, mouth_y + curve * (0.6 - u**2)], 1)
    fill(_stroke(mouth, 0.036 + 0.020 * g["lips"]), (176, 66, 66) if looks.skin != "dark" else (150, 52, 58))
    # mole: from high on the left cheek, down, across, and up the right one
    side = -1 if g["mole"] < 0 else 1
    up = abs(g["mole"])
    fill(_ellipse(side * half_width * 0.66, 0.115 - 0.075 * up, 0.019, 0.019), (58, 30, 26))
    if looks.glasses:
        for side in (-1, 1):
            ring = frame(_ellipse(side * eye_x, eye_y, 0.082, 0.072))
            pen.line([*ring, ring[0], ring[1]], fill=(26, 26, 32), width=5, joint="curve")
        pen.line(frame(np.array([[-eye_x + 0.08, eye_y], [eye_x - 0.08, eye_y]])), fill=(26, 26, 32), width=5)
        for side in (-1, 1):
            pen.line(
                frame(np.array([[side * (eye_x + 0.08), eye_y], [side * half_width, eye_y - 0.01]])),
                fill=(26, 26, 32),
                width=5,
            )


def _shape(pen: ImageDraw.ImageDraw, picture: Picture) -> None:
    frame = _Frame(tuple(2.0 * j for j in picture.jitter), (0.5, 0.5))
    size = 0.26
    t = np.linspace(0, 2 * np.pi, 5, endpoint=False) - np.pi / 2
    outer, inner = (
        np.stack([np.cos(t), np.sin(t)], 1),
        np.stack([np.cos(t + np.pi / 5), np.sin(t + np.pi / 5)], 1) * 0.42,
    )
    points = {
        "circle": _ellipse(0, 0, 1, 1),
        "square": np.array([[-0.9, -0.9], [0.9, -0.9], [0.9, 0.9], [-0.9, 0.9]]),
        "triangle": np.array([[0, -1.05], [1.0, 0.8], [-1.0, 0.8]]),
        "star": np.stack([outer, inner], 1).reshape(-1, 2) * 1.2,
    }[picture.kind]
    pen.polygon(
        frame(points * size), fill=COLOURS[picture.colour], outline=_shade(COLOURS[picture.colour], 0.6), width=5
    )


def _object(pen: ImageDraw.ImageDraw, picture: Picture) -> None:
    frame = _Frame(tuple(1.6 * j for j in picture.jitter), (0.5, 0.58))
    rgb, dark = COLOURS[picture.colour], _shade(COLOURS[picture.colour], 0.62)
    brown, white, ink = (110, 74, 48), (244, 244, 240), (48, 46, 54)

    def box(x0: float, y0: float, x1: float, y1: float, fill: tuple[int, int, int]) -> None:
        pen.polygon(frame(np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])), fill=fill)

    def poly(points: list[list[float]], fill: tuple[int, int, int]) -> None:
        pen.polygon(frame(np.array(points)), fill=fill)

    def oval(cx: float, cy: float, rx: float, ry: float, fill: tuple[int, int, int]) -> None:
        pen.polygon(frame(_ellipse(cx, cy, rx, ry)), fill=fill)

    if picture.kind == "house":
        box(-0.24, -0.08, 0.24, 0.26, rgb)
        poly([[-0.30, -0.08], [0, -0.34], [0.30, -0.08]], dark)
        box(-0.06, 0.06, 0.06, 0.26, brown)
        box(0.11, 0.0, 0.20, 0.09, white)
    elif picture.kind == "tree":
        box(-0.05, 0.02, 0.05, 0.30, brown)
        oval(0, -0.12, 0.24, 0.22, rgb)
        oval(-0.08, -0.18, 0.08, 0.07, _shade(rgb, 1.2))
    elif picture.kind == "boat":
        poly([[-0.30, 0.10], [0.30, 0.10], [0.20, 0.25], [-0.20, 0.25]], rgb)
        box(-0.015, -0.32, 0.015, 0.10, brown)
        poly([[0.03, -0.30], [0.26, 0.05], [0.03, 0.05]], white)
    elif picture.kind == "cup":
        oval(0.19, 0.0, 0.12, 0.12, dark)
        oval(0.19, 0.0, 0.07, 0.07, PLACES[picture.place][0])
        poly([[-0.20, -0.18], [0.20, -0.18], [0.15, 0.22], [-0.15, 0.22]], rgb)
        oval(0, -0.18, 0.20, 0.05, dark)
    elif picture.kind == "car":
        poly([[-0.16, -0.02], [-0.09, -0.18], [0.12, -0.18], [0.20, -0.02]], dark)
        box(-0.32, -0.02, 0.32, 0.16, rgb)
        for x in (-0.18, 0.18):
            oval(x, 0.17, 0.085, 0.085, ink)
            oval(x, 0.17, 0.035, 0.035, white)
    else:
        box(-0.02, 0.0, 0.02, 0.32, (60, 130, 60))
        for angle in np.linspace(0, 2 * np.pi, 6, endpoint=False):
            oval(0.15 * np.cos(angle), -0.10 + 0.15 * np.sin(angle), 0.095, 0.095, rgb)
        oval(0, -0.10, 0.085, 0.085, (250, 226, 120) if picture.colour != "yellow" else brown)


def _scene(picture: Picture) -> Image.Image:
    j = picture.jitter
    sky = {"a sunset": (238, 150, 96), "a rainbow": (176, 210, 236)}.get(picture.kind, (158, 204, 238))
    image = Image.new("RGB", (CANVAS, CANVAS), sky)
    pen = ImageDraw.Draw(image)
    c = CANVAS
    rgb = COLOURS[picture.colour]
    if picture.kind == "mountains":
        for x, h in ((0.25 + 0.05 * j[0], 0.55 + 0.06 * j[1]), (0.72 + 0.05 * j[2], 0.68 + 0.06 * j[3])):
            pen.polygon(
                [(c * (x - 0.42), c * 0.85), (c * x, c * (0.95 - h)), (c * (x + 0.42), c * 0.85)], fill=(112, 118, 138)
            )
            pen.polygon(
                [(c * (x - 0.1), c * (1.06 - h)), (c * x, c * (0.95 - h)), (c * (x + 0.1), c * (1.06 - h))],
                fill=(244, 246, 250),
            )
        pen.rectangle((0, c * 0.8, c, c), fill=(96, 152, 88))
    elif picture.kind == "a sunset":
        x, r = 0.5 + 0.2 * j[0], 0.16 + 0.02 * j[1]
        pen.ellipse((c * (x - r), c * (0.55 - r), c * (x + r), c * (0.55 + r)), fill=(252, 222, 120))
        pen.rectangle((0, c * (0.62 + 0.03 * j[2]), c, c), fill=(74, 70, 128))
    elif picture.kind == "a rainbow":
        x = 0.5 + 0.1 * j[0]
        for i, band in enumerate(COLOURS.values()):
            r = 0.52 - 0.045 * i
            pen.ellipse((c * (x - r), c * (0.85 - r), c * (x + r), c * (0.85 + r)), fill=band)
        r = 0.52 - 0.045 * 6
        pen.ellipse((c * (x - r), c * (0.85 - r), c * (x + r), c * (0.85 + r)), fill=sky)
        pen.rectangle((0, c * 0.78, c, c), fill=(96, 152, 88))
    else:
        pen.rectangle((0, c * 0.5, c, c), fill=(110, 160, 96))
        x = 0.5 + 0.12 * j[0]
        pen.polygon(
            [(c * (x - 0.03), c * 0.5), (c * (x + 0.03), c * 0.5), (c * 0.85, c), (c * 0.15, c)], fill=(92, 92, 100)
        )
        pen.polygon(
            [(c * (x - 0.005), c * 0.5), (c * (x + 0.005), c * 0.5), (c * 0.53, c), (c * 0.47, c)], fill=(244, 236, 200)
        )
        pen.ellipse((c * 0.7, c * 0.1, c * 0.86, c * 0.26), fill=rgb)
    return image


def draw_all(pictures: Sequence[Picture]) -> np.ndarray:
    """Draws pictures on all cores: uint8 [n, 64, 64, 3]."""
    # A worker that ended in a command's own way when it is asked to (`tools.command`) could wait for ever.
    with Pool(initializer=signal.signal, initargs=(signal.SIGTERM, signal.SIG_DFL)) as pool:
        drawn = pool.map(draw, pictures, chunksize=64)
        pool.close()
        pool.join()
    return np.stack(drawn)
