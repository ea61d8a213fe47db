"""Draws the mascots of the demo's world: characters that are nobody, each with a look of its own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from .drawing import INK, WHITE, Pen, Rgb, arc, mix, oval, shade


@dataclass(frozen=True)
class Mascot:
    """What a mascot is, as captions say it, and its look."""

    species: str
    body: Rgb
    belly: Rgb
    ears: str
    mouth: str
    extra: str = ""
    eyes: int = 2


MASCOTS: dict[str, Mascot] = {
    "Bramblo": Mascot("bear", (150, 98, 60), (232, 196, 150), "round", "muzzle", "scarf"),
    "Pippolin": Mascot("rabbit", (236, 232, 240), (250, 214, 222), "long", "teeth", "bow"),
    "Zibbi": Mascot("robot", (130, 160, 184), (206, 222, 232), "antenna", "grille", "panel"),
    "Quackaro": Mascot("duck", (250, 212, 70), (255, 236, 150), "tuft", "beak", "cap"),
    "Mogwen": Mascot("cat", (86, 92, 112), (196, 200, 214), "pointed", "whiskers", "bell"),
    "Foxtrel": Mascot("fox", (230, 118, 48), (250, 238, 226), "pointed", "snout", "scarf"),
    "Glimbo": Mascot("monster", (112, 190, 84), (190, 232, 140), "horns", "fangs", "", 1),
    "Octavine": Mascot("octopus", (188, 92, 178), (232, 168, 222), "none", "smile", "arms"),
    "Pengu": Mascot("penguin", (52, 66, 98), (248, 246, 240), "none", "beak", "bow"),
    "Drakkun": Mascot("dragon", (206, 60, 66), (250, 196, 110), "horns", "snout", "wings"),
}
"""The mascots by name."""


def draw_mascot(image: Image.Image, name: str, jitter: tuple[float, ...]) -> None:
    """One of `MASCOTS`, whole, on a canvas."""
    m = MASCOTS[name]
    pen = Pen(image, jitter, (0.5, 0.555 if m.ears == "long" else 0.535), 1.06 if m.ears == "long" else 1.12, reach=1.4)
    _behind(pen, m)
    _ears(pen, m)
    square = 4.5 if m.species == "robot" else 2.3
    if m.extra == "arms":
        for k in range(5):
            x = -0.24 + 0.12 * k
            pen.line(
                np.array([[x * 0.7, 0.12], [x * 1.15, 0.26], [x * 1.05, 0.36], [x * 1.35, 0.37]]),
                0.075,
                shade(m.body, 0.86),
            )
    else:
        for side in (-1, 1):
            pen.oval(side * 0.10, 0.36, 0.085, 0.045, shade(m.body, 0.72) if m.mouth != "beak" else (240, 150, 50))
            pen.fill(oval(side * 0.21, 0.19, 0.055, 0.115, side * -0.5), shade(m.body, 0.86))
        pen.fill(oval(0, 0.20, 0.19, 0.18, power=square), m.body)
        pen.fill(oval(0, 0.225, 0.125, 0.13, power=square), m.belly)
    pen.fill(oval(0, -0.10, 0.255, 0.215, power=square), shade(m.body, 0.88))
    pen.fill(oval(-0.008, -0.108, 0.245, 0.206, power=square), m.body)
    if m.species in ("penguin", "cat"):
        for side in (-1, 1):
            pen.oval(side * 0.085, -0.075, 0.115, 0.125, m.belly)
    _eyes(pen, m)
    _mouth(pen, m)
    _extra(pen, m)


def _behind(pen: Pen, m: Mascot) -> None:
    if m.extra == "wings":
        for side in (-1, 1):
            wing = [[0.10, 0.16], [0.40, -0.10], [0.42, 0.10], [0.34, 0.08], [0.34, 0.20], [0.25, 0.17], [0.20, 0.26]]
            pen.fill(np.array(wing) * (side, 1), shade(m.body, 0.7))
    if m.species in ("fox", "cat", "dragon"):
        tail = np.array([[0.10, 0.30], [0.26, 0.32], [0.34, 0.22], [0.36, 0.12]])
        pen.line(tail, 0.085, shade(m.body, 0.9))
        if m.species == "fox":
            pen.oval(0.36, 0.12, 0.055, 0.065, m.belly)


def _ears(pen: Pen, m: Mascot) -> None:
    for side in (-1, 1):
        if m.ears == "round":
            pen.oval(side * 0.185, -0.265, 0.085, 0.085, shade(m.body, 0.9))
            pen.oval(side * 0.185, -0.26, 0.048, 0.048, m.belly)
        elif m.ears == "long":
            pen.fill(oval(side * 0.105, -0.36, 0.062, 0.17, side * 0.16), shade(m.body, 0.94))
            pen.fill(oval(side * 0.105, -0.36, 0.032, 0.125, side * 0.16), m.belly)
        elif m.ears == "pointed":
            pen.fill(np.array([[0.06, -0.26], [0.215, -0.43], [0.25, -0.17]]) * (side, 1), shade(m.body, 0.92))
            pen.fill(
                np.array([[0.11, -0.27], [0.20, -0.37], [0.22, -0.21]]) * (side, 1), mix(m.belly, (240, 150, 160), 0.4)
            )
        elif m.ears == "horns":
            pen.fill(np.array([[0.08, -0.26], [0.20, -0.43], [0.19, -0.21]]) * (side, 1), (250, 236, 190))
        elif m.ears == "antenna":
            pen.box(side * 0.265 - 0.03, -0.15, side * 0.265 + 0.03, -0.03, (240, 150, 60))
    if m.ears == "antenna":
        pen.line([[0, -0.28], [0, -0.40]], 0.024, (90, 104, 120))
        pen.oval(0, -0.41, 0.042, 0.042, (240, 84, 74))
    elif m.ears == "tuft":
        for x in (-0.05, 0.0, 0.05):
            pen.fill([[x - 0.025, -0.28], [1.7 * x, -0.40], [x + 0.025, -0.28]], shade(m.body, 0.9))


def _eyes(pen: Pen, m: Mascot) -> None:
    places = (0.0,) if m.eyes == 1 else (-0.098, 0.098)
    r = 0.095 if m.eyes == 1 else 0.058
    for x in places:
        if m.species == "robot":
            pen.fill(oval(x, -0.13, 0.066, 0.066, power=4), (40, 50, 66))
            pen.fill(oval(x, -0.13, 0.040, 0.040, power=3), (110, 236, 226))
            continue
        pen.oval(x, -0.13, r, r * 1.1, WHITE)
        pen.oval(x, -0.125, r * 0.66, r * 0.74, INK)
        pen.oval(x - 0.25 * r, -0.155, r * 0.24, r * 0.24, WHITE)


def _mouth(pen: Pen, m: Mascot) -> None:
    if m.mouth == "beak":
        pen.fill(oval(0, -0.025, 0.088, 0.046), (242, 148, 44))
        pen.line(arc(0, -0.035, 0.080, 0.028, 20, 160, 10), 0.012, (178, 96, 30))
    elif m.mouth in ("muzzle", "snout"):
        pen.oval(0, -0.018, 0.108, 0.076, m.belly)
        pen.oval(0, -0.055, 0.036, 0.026, INK)
        pen.line(arc(0, -0.022, 0.042, 0.042, 20, 160, 10), 0.014, INK)
    elif m.mouth == "teeth":
        pen.oval(0, -0.058, 0.024, 0.018, (236, 120, 140))
        pen.line(arc(0, -0.045, 0.062, 0.040, 15, 165, 10), 0.014, INK)
        pen.box(-0.024, -0.010, 0.024, 0.034, WHITE)
    elif m.mouth == "grille":
        pen.fill(oval(0, 0.018, 0.105, 0.034, power=4), (70, 84, 102))
        for x in (-0.06, -0.02, 0.02, 0.06):
            pen.box(x - 0.006, -0.008, x + 0.006, 0.044, m.belly)
    elif m.mouth == "whiskers":
        pen.oval(0, -0.055, 0.026, 0.019, (236, 130, 140))
        for side in (-1, 1):
            pen.line(arc(side * 0.032, -0.03, 0.032, 0.03, 10, 170, 8), 0.012, INK)
            for dy in (-0.02, 0.01):
                pen.line([[side * 0.10, -0.03 + dy], [side * 0.27, -0.05 + 2.6 * dy]], 0.010, WHITE)
    elif m.mouth == "fangs":
        pen.fill(np.concatenate([arc(0, 0.005, 0.12, 0.075, 0, 180)]), (96, 36, 50))
        for x in (-0.07, 0.07):
            pen.fill([[x - 0.022, 0.005], [x + 0.022, 0.005], [x, 0.05]], WHITE)
    else:
        pen.line(arc(0, -0.04, 0.075, 0.06, 15, 165, 12), 0.018, INK)
        for side in (-1, 1):
            pen.oval(side * 0.17, -0.05, 0.036, 0.024, (240, 120, 160))


def _extra(pen: Pen, m: Mascot) -> None:
    if m.extra == "scarf":
        rgb = (206, 48, 56) if m.species == "bear" else (52, 122, 190)
        pen.fill(oval(0, 0.10, 0.185, 0.042), rgb)
        pen.fill([[0.06, 0.10], [0.13, 0.10], [0.15, 0.27], [0.08, 0.28]], shade(rgb, 0.84))
    elif m.extra == "bow":
        rgb = (230, 70, 130) if m.species == "rabbit" else (220, 50, 50)
        for side in (-1, 1):
            pen.fill(np.array([[0, 0.115], [0.095, 0.065], [0.095, 0.165]]) * (side, 1), rgb)
        pen.oval(0, 0.115, 0.026, 0.026, shade(rgb, 0.78))
    elif m.extra == "panel":
        pen.box(-0.085, 0.16, 0.085, 0.26, (60, 74, 94))
        for k, rgb in enumerate(((240, 84, 74), (250, 206, 80), (110, 220, 120))):
            pen.oval(-0.05 + 0.05 * k, 0.21, 0.018, 0.018, rgb)
    elif m.extra == "cap":
        pen.fill(np.concatenate([arc(0, -0.23, 0.17, 0.12, 180, 360), [[0.27, -0.22], [0.25, -0.20]]]), (44, 96, 190))
    elif m.extra == "bell":
        pen.fill(oval(0, 0.105, 0.15, 0.024), (206, 54, 60))
        pen.oval(0, 0.135, 0.034, 0.034, (246, 206, 80))
