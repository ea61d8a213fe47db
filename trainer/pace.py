"""Without this module showing how a run goes could take longer than the run."""

from __future__ import annotations

import time
from collections.abc import Callable

from .denoiser import Vectors
from .preview import COLUMNS

SHARE = 0.05
"""Share of the time of a run that may go into showing it."""


class Pace:
    """Shows now and then, as the clock allows; what a run learns does not depend on it.

    Args:
        started: when the run did, by `time.monotonic`.
        picture_seconds: what drawing one picture took.
    """

    def __init__(self, started: float, picture_seconds: float) -> None:
        self._started = started
        self._expected = 2 * COLUMNS * picture_seconds
        self._spent = 0.0

    def show(self, show: Callable[[Vectors], None], vectors: Vectors) -> None:
        """Shows the vectors, if there is time for that."""
        began = time.monotonic()
        if self._spent + self._expected > SHARE * (began - self._started):
            return
        show(vectors)
        self._expected = time.monotonic() - began
        self._spent += self._expected
