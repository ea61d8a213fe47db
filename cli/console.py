"""Prints progress, results and errors: who hears what, and in which form.

Results go to stdout, everything else to stderr. Rich draws a bar where it is installed and a person is looking; else
there is a line now and then.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TextIO

SECONDS_BETWEEN_LINES = 10.0


class ProgressReport(Protocol):
    """Shows how far a piece of work is."""

    def __call__(self, text: str, done: int, of: int) -> None:
        """What is being done, and how much of it is."""


class Console:
    """Where the command's words go.

    Args:
        as_json: stdout gets one JSON object, of the result or of the error.
        quiet: no progress.
    """

    def __init__(self, as_json: bool = False, quiet: bool = False) -> None:
        self._as_json = as_json
        self._quiet = quiet

    def of_member(self, rank: int) -> Console:
        """The console of one of several processes: the first one's shows progress, the others are quiet."""
        return self if rank == 0 else Console(self._as_json, quiet=True)

    def say(self, text: str) -> None:
        """A line of news for whoever watches."""
        if not self._quiet:
            print(_printable(text, sys.stderr), file=sys.stderr, flush=True)

    @contextmanager
    def progress_report(self) -> Iterator[ProgressReport]:
        """Inside, shows how far a piece of work is."""
        if self._quiet:
            yield lambda text, done, of: None
        elif (rich := _rich()) is None:
            yield _Lines()
        else:
            with rich:
                yield _Bar(rich)

    def result(self, found: dict[str, Any]) -> None:
        """What came of it; `found["report"]` is what a person is told."""
        if self._as_json:
            print(json.dumps({"ok": True, **found}), flush=True)  # In ASCII, which every pipe and console takes.
        else:
            print(_printable(found["report"], sys.stdout), flush=True)

    def failure(self, sentence: str, code: int) -> None:
        """Why nothing came of it."""
        if self._as_json:
            print(json.dumps({"ok": False, "error": sentence, "code": code}), flush=True)
        print(_printable(sentence, sys.stderr), file=sys.stderr, flush=True)


def _printable(text: str, stream: TextIO) -> str:
    """The text, with marks for what the stream's encoding does not have."""
    encoding = stream.encoding or "utf-8"
    return text.encode(encoding, "replace").decode(encoding)


def kind_of(text: str) -> str:
    """What is being done, of what is told of it: figures change with every step, and stand behind a comma."""
    return text.partition(",")[0]


class _Lines:
    """A line when the work changes, and now and then."""

    def __init__(self) -> None:
        self._kind = ""
        self._shown = 0.0

    def __call__(self, text: str, done: int, of: int) -> None:
        kind = kind_of(text)
        if kind != self._kind or time.monotonic() - self._shown > SECONDS_BETWEEN_LINES or done == of:
            print(f"{text}: {done} of {of}", file=sys.stderr, flush=True)
            self._kind, self._shown = kind, time.monotonic()


class _Bar:
    """A bar of rich for each kind of work."""

    def __init__(self, progress: Any) -> None:
        self._progress = progress
        self._tasks: dict[str, Any] = {}

    def __call__(self, text: str, done: int, of: int) -> None:
        kind = kind_of(text)
        if kind not in self._tasks:
            self._tasks[kind] = self._progress.add_task(text, total=of)
        self._progress.update(self._tasks[kind], description=text, completed=done, total=of)


def _rich() -> Any:
    """Rich's bars, if a person is looking and it is installed."""
    if not sys.stderr.isatty():
        return None
    try:
        from rich.console import Console as RichConsole
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    except ImportError:
        return None
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=RichConsole(stderr=True))
