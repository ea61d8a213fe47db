"""Runs the measurement of experts in its short form, and reads what it prints."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from anonymize_faces.tools.layout import ROOT

FIGURES = re.compile(r"^(RATE|RATIO) (\w+) ([\d.]+)$", re.M)


@pytest.mark.slow
def test_the_short_form_prints_every_row_and_the_figures_last() -> None:
    """With one step of tuning the experts draw nothing well; what is printed is whole."""
    command = [sys.executable, "-m", "anonymize_faces.benchmarks.experts", "--quick"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = FIGURES.findall(done.stdout)
    names = ["experts_names", "experts_looks", "routed_distance", "static_distance"]
    assert [name for _, name, _ in found] == ["experts_time", *names] and found[0][0] == "RATIO"
    rows = dict(re.findall(r"^(full|0\.\d+ \w+|EasyCache|\d+ steps, as 0\.\d+) .*?(\d\.\d\d\d) ", done.stdout, re.M))
    assert rows["full"] == "0.000" and {"0.75 routed", "0.6 static", "0.6 routed"} <= rows.keys() and len(rows) >= 6
