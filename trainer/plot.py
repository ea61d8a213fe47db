"""Without this module nobody could see whether a run went well: the losses as a picture.

Drawn with Pillow, which every host has.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .loop import Losses

WIDTH, HEIGHT = 960, 540
LEFT, TOP, RIGHT, BOTTOM = 96, 64, 32, 64
SCALE = 2
"""Lines are drawn this much larger and then shrunk, which smooths their edges."""

SMOOTHING = 40
"""A curve is the running mean over one such part of the run."""

INK, FAINT, PAPER = (40, 44, 52), (224, 227, 232), (255, 255, 255)
CURVES = (
    ("people named", (214, 84, 60), (246, 210, 202)),
    ("other prompts", (46, 117, 182), (202, 221, 240)),
)


def plot_losses(history: Sequence[Losses]) -> Tensor:
    """The losses of a run on a logarithmic scale as an image `[1, 540, 960, 3]`, float32 in 0 to 1.

    Single steps are faint, their running means strong; people named and other prompts apart.
    """
    import numpy as np
    from PIL import Image, ImageDraw, ImageFont

    image = Image.new("RGB", (WIDTH * SCALE, HEIGHT * SCALE), PAPER)
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(15 * SCALE)
    series = [_points([losses[kind] for losses in history]) for kind in range(len(CURVES))]
    values = [value for points in series for _, value in points]
    low, high = _decades(values)
    last = max(len(history), 2)

    def place(step: float, value: float) -> tuple[float, float]:
        across = LEFT + (WIDTH - LEFT - RIGHT) * (step - 1) / (last - 1)
        up = (math.log10(value) - low) / (high - low)
        return across * SCALE, (TOP + (HEIGHT - TOP - BOTTOM) * (1 - up)) * SCALE

    def write(x: float, y: float, text: str, anchor: str, fill: tuple[int, int, int] = INK) -> None:
        draw.text((x * SCALE, y * SCALE), text, font=font, fill=fill, anchor=anchor)

    for value in _ticks(low, high):
        y = place(1, value)[1]
        draw.line([(LEFT * SCALE, y), ((WIDTH - RIGHT) * SCALE, y)], fill=FAINT, width=SCALE)
        write(LEFT - 10, y / SCALE, f"{value:g}", "rm")
    for step in sorted({1 + round(part * (last - 1) / 4) for part in range(5)}):
        x = place(step, 10**low)[0]
        write(x / SCALE, HEIGHT - BOTTOM + 10, str(step), "ma")
    for points, (_, _, pale) in zip(series, CURVES, strict=True):
        _line(draw, [place(*point) for point in points], pale, SCALE)
    for points, (_, strong, _) in zip(series, CURVES, strict=True):
        _line(draw, [place(*point) for point in _smooth(points)], strong, 3 * SCALE)
    corners = (LEFT, TOP, WIDTH - RIGHT, HEIGHT - BOTTOM)
    draw.line([(LEFT * SCALE, corners[1] * SCALE), (LEFT * SCALE, corners[3] * SCALE)], fill=INK, width=SCALE)
    draw.line([(LEFT * SCALE, corners[3] * SCALE), (corners[2] * SCALE, corners[3] * SCALE)], fill=INK, width=SCALE)
    write(LEFT, 20, "Distance from the neutral prediction", "la")
    write((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 14, "step", "md")
    x = WIDTH - RIGHT
    for name, strong, _ in reversed(CURVES):
        write(x, 20, name, "ra", strong)
        x -= draw.textlength(name, font=font) / SCALE + 12
        draw.line([((x - 22) * SCALE, 29 * SCALE), (x * SCALE, 29 * SCALE)], fill=strong, width=4 * SCALE)
        x -= 46
    shrunk = image.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.asarray(shrunk, dtype=np.float32) / 255).unsqueeze(0)


def _points(losses: Sequence[float]) -> list[tuple[int, float]]:
    """Steps, from 1, with their losses; without those that cannot be drawn on a logarithmic scale."""
    return [(step, loss) for step, loss in enumerate(losses, start=1) if loss > 0 and math.isfinite(loss)]


def _smooth(points: Sequence[tuple[int, float]]) -> list[tuple[float, float]]:
    """Running means in logarithms over one part in `SMOOTHING` of the run, on either side."""
    reach = max(2, len(points) // (2 * SMOOTHING))
    logs = [math.log(value) for _, value in points]
    smoothed = []
    for index, (step, _) in enumerate(points):
        window = logs[max(0, index - reach) : index + reach + 1]
        smoothed.append((step, math.exp(sum(window) / len(window))))
    return smoothed


def _decades(values: Sequence[float]) -> tuple[float, float]:
    """The logarithms between which the curves lie, with some room."""
    if not values:
        return -3.0, 0.0
    low, high = math.log10(min(values)), math.log10(max(values))
    room = max(0.1, 0.05 * (high - low))
    return low - room, high + room


def _ticks(low: float, high: float) -> list[float]:
    """Round values (1, 2 or 5 times a power of ten) between two logarithms."""
    candidates = (digit * 10.0**power for power in range(math.floor(low), math.ceil(high) + 1) for digit in (1, 2, 5))
    ticks = [value for value in candidates if low <= math.log10(value) <= high]
    powers = [value for value in ticks if math.isclose(math.log10(value), round(math.log10(value)), abs_tol=1e-9)]
    return powers if len(powers) > 3 else ticks


def _line(draw, places: Sequence[tuple[float, float]], fill: tuple[int, int, int], width: int) -> None:
    if len(places) > 1:
        draw.line(list(places), fill=fill, width=width, joint="curve")
    elif places:
        x, y = places[0]
        draw.ellipse([x - 2 * width, y - 2 * width, x + 2 * width, y + 2 * width], fill=fill)
