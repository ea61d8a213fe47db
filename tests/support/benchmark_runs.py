"""Runs a benchmark in this process, as its command line does: the host is imported once for all of them."""

from __future__ import annotations

import importlib
import sys

import pytest

from anonymize_faces.tools.command import run_command


def printed_by(name: str, *arguments: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What the benchmark of this name prints when it is run with these arguments.

    Raises:
        AssertionError: it did not end well.
    """
    capsys.readouterr()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sys, "argv", [name, *arguments])
        code = run_command(importlib.import_module(f"anonymize_faces.benchmarks.{name}").main)
    printed = capsys.readouterr()
    assert code == 0, printed.err[-2000:]
    return printed.out
