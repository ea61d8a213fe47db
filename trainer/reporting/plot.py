"""Draws the losses of a run."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ...faces.palette import BLUE, PALE_BLUE, PALE_RED, RED
from ..state import Losses
from .chart import Axis, Curve, draw_chart

SMOOTHING = 40
"""A curve is the running mean over one such part of the run."""

CURVES = (
    ("people named", RED, PALE_RED),
    ("other prompts", BLUE, PALE_BLUE),
)


def plot_losses(history: Sequence[Losses]) -> Tensor:
    """The losses of a run on a logarithmic scale as an image `[1, 540, 960, 3]`, float32 in 0 to 1.

    Single steps are faint, their running means strong; people named and other prompts apart.
    """
    import numpy as np

    series = [_points([losses[kind] for losses in history]) for kind in range(len(CURVES))]
    low, high = _decades([value for points in series for _, value in points])
    last = max(len(history), 2)
    across = Axis(1, last, [(step, str(step)) for step in sorted({1 + round(n * (last - 1) / 4) for n in range(5)})])
    up = Axis(low, high, [(math.log10(value), f"{value:g}") for value in _ticks(low, high)])
    single = [Curve(_logs(points), pale, 1) for points, (_, _, pale) in zip(series, CURVES, strict=True)]
    means = [Curve(_logs(_smooth(points)), strong) for points, (_, strong, _) in zip(series, CURVES, strict=True)]
    legend = [(name, strong) for name, strong, _ in CURVES]
    image = draw_chart("Distance from the neutral prediction", "step", across, up, [*single, *means], legend)
    return torch.from_numpy(np.asarray(image, dtype=np.float32) / 255).unsqueeze(0)


def _logs(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    return [(step, math.log10(value)) for step, value in points]


def _points(losses: Sequence[float]) -> list[tuple[int, float]]:
    """Steps, from 1, with their losses; without those that cannot be drawn on a logarithmic scale."""
    return [(step, loss) for step, loss in enumerate(losses, start=1) if loss > 0 and math.isfinite(loss)]


def _smooth(points: Sequence[tuple[int, float]]) -> list[tuple[float, float]]:
    """Running means in logarithms over one part in `SMOOTHING` of the run, on either side."""
    reach = max(2, len(points) // (2 * SMOOTHING))
    logs = [math.log(value) for _, value in points]
    smoothed: list[tuple[float, float]] = []
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
