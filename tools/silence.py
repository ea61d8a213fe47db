"""Tells when nothing has been heard of a process for too long: who waits for one gives up on silence, not on length.

A sign of life is a message that the caller heard of, or a line that the process added to its log.
"""

from __future__ import annotations

import time
from pathlib import Path


class Silence:
    """How long a process has been silent.

    Args:
        seconds: how much silence is too much.
        log: the file that the process prints to; it need not be there.
    """

    def __init__(self, seconds: float, log: Path) -> None:
        self.seconds = seconds
        self._log = log
        self._size = self._printed()
        self._heard = time.monotonic()

    def heard(self) -> None:
        """Something was heard of the process just now."""
        self._heard = time.monotonic()

    def too_long(self) -> bool:
        """Whether nothing was heard and nothing printed for all those seconds."""
        if (size := self._printed()) != self._size:
            self._size = size
            self.heard()
        return time.monotonic() - self._heard > self.seconds

    def _printed(self) -> int:
        try:
            return self._log.stat().st_size
        except OSError:
            return 0
