"""Measures ways to draw the same pictures: what time they take here, and how far what they draw is from the first's."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class DrawingWay:
    """A way to draw.

    Attributes:
        title: what people call it.
        share: of the model's compute that it needs; None where nobody knows beforehand.
        draw: draws, latents `[n, …]`.
    """

    title: str
    share: float | None
    draw: Callable[[], Tensor]


@dataclass(frozen=True)
class MeasuredWay:
    """What came of it.

    Attributes:
        title, share: as before.
        seconds: the median of its turns.
        ratio: to the first way's.
        distance: root mean square to what the first drew, as a share of what another noise changes there.
    """

    title: str
    share: float | None
    seconds: float
    ratio: float
    distance: float


def measured(
    ways: Sequence[DrawingWay],
    other_noise: Callable[[], Tensor],
    turns: int = 3,
    check: Callable[[], None] = lambda: None,
) -> list[MeasuredWay]:
    """Draws by all ways in turns, so that a busy machine hinders all alike; the first is what others are compared with.

    Args:
        other_noise: draws by the first way from another noise.
        turns: that count, after one that does not.
    """
    drawn = []
    for way in ways:
        check()
        drawn.append(way.draw().float().cpu())
    seconds: list[list[float]] = [[] for _ in ways]
    for _ in range(turns):
        for way, found in zip(ways, seconds, strict=True):
            check()
            began = time.perf_counter()
            way.draw()
            found.append(time.perf_counter() - began)
    medians = [sorted(found)[len(found) // 2] for found in seconds]
    usual = _distance(other_noise().float().cpu(), drawn[0])
    return [
        MeasuredWay(way.title, way.share, median, median / medians[0], _distance(picture, drawn[0]) / usual)
        for way, median, picture in zip(ways, medians, drawn, strict=True)
    ]


def table(rows: Sequence[MeasuredWay]) -> str:
    """The rows for people."""
    width = max(len(row.title) for row in rows)
    lines = [f"{'':<{width}}  compute  seconds  time   distance"]
    for row in rows:
        share = "   –" if row.share is None else f"{row.share:.2f}"
        lines.append(f"{row.title:<{width}}  {share:>7}  {row.seconds:7.2f}  {row.ratio:4.2f}  {row.distance:8.3f}")
    return "\n".join(lines)


def equal_steps(steps: int, ratio: float) -> int:
    """So many sampler steps of the whole model take about the time of `steps` of a way with that ratio."""
    return max(1, min(steps, round(steps * ratio)))


def _distance(some: Tensor, others: Tensor) -> float:
    return float(torch.sqrt((some - others).square().mean()).clamp_min(1e-12))
