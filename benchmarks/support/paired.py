"""Compares two ways of doing a thing, in turns.

A machine's speed drifts. So the two are timed in turns, in changing order, and compared pair by pair.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Pairs:
    """Seconds of either way, run in turns: `subject[i]` and `reference[i]` ran one right after the other."""

    subject: tuple[float, ...]
    reference: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """Median of the pairs' ratios, subject to reference."""
        return median(self._ratios())

    @property
    def uncertainty(self) -> float:
        """Standard error of the ratio: that of a median, from the median absolute deviation of the pairs' ratios."""
        spread = 1.4826 * median(abs(ratio - self.ratio) for ratio in self._ratios())
        return 1.2533 * spread / len(self.subject) ** 0.5

    def summary(self, name: str) -> str:
        """One line for people: medians and uncertainty."""
        return (
            f"{name}: {median(self.subject):.3f} s with, {median(self.reference):.3f} s without,"
            f" {len(self.subject)} pairs, ratio ± {self.uncertainty:.4f}"
        )

    def _ratios(self) -> list[float]:
        return [with_it / without for with_it, without in zip(self.subject, self.reference, strict=True)]


def in_turns(
    subject: Callable[[], float], reference: Callable[[], float], least: int, most: int, uncertainty: float
) -> Pairs:
    """Runs both ways in turns, the other one first in every second pair, until the ratio is known well enough.

    Args:
        subject: runs one way and returns the seconds it took.
        reference: the same for the other way.
        least: fewest pairs.
        most: most pairs, however uncertain the ratio may still be.
        uncertainty: of the ratio, at which to stop.
    """
    seconds: tuple[list[float], list[float]] = ([], [])
    ways = (subject, reference)
    for pair in range(most):
        for way in (0, 1) if pair % 2 == 0 else (1, 0):
            seconds[way].append(ways[way]())
        pairs = Pairs(tuple(seconds[0]), tuple(seconds[1]))
        if pair + 1 >= least and pairs.uncertainty <= uncertainty:
            break
    return pairs
