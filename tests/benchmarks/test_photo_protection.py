"""Runs the measurement of protected photos in a form of seconds, and reads what it prints."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from anonymize_faces.tools.layout import ROOT

FIGURES = re.compile(r"^(?:RATE|RATIO) (photo_\w+) ([\d.]+)$", re.M)


@pytest.mark.slow
def test_the_short_form_prints_every_figure_that_is_asked_for() -> None:
    """With two steps nobody is protected and nobody is learned; what is printed is whole."""
    how = ["--quick", "--people", "1", "--steps", "2"]
    command = [sys.executable, "-m", "anonymize_faces.benchmarks.photo_protection", *how]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = dict(FIGURES.findall(done.stdout))
    rates = [f"photo_rank1_{name}" for name in ("clean", "random", "protected", "jpeg")]
    assert list(found) == [*rates, "photo_passes"] and float(found["photo_passes"]) <= 1 / 3
    assert "encoder withstand" in done.stdout and "JPEG 75" in done.stdout
