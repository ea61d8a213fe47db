"""Measures the memory that a piece of work takes at its peak, beside what was there before."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

STATUS = Path("/proc/self/status")


def anonymous_bytes() -> int:
    """The process's own memory now; not pages of files, which the system drops when it needs room."""
    for line in STATUS.read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise OSError("this system does not tell a process's own memory")


@contextmanager
def peak_bytes(every_seconds: float = 0.002) -> Iterator[list[int]]:
    """The peak over what the process had at the start, sampled by a thread; the list holds it afterwards."""
    peak: list[int] = []
    done = threading.Event()
    before = highest = anonymous_bytes()

    def watch() -> None:
        nonlocal highest
        while not done.wait(every_seconds):
            highest = max(highest, anonymous_bytes())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield peak
    finally:
        done.set()
        watcher.join()
        peak.append(highest - before)
