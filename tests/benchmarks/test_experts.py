"""Runs the measurement of experts in its short form, and reads what it prints."""

from __future__ import annotations

import re

import pytest

from anonymize_faces.tests.support.benchmark_runs import printed_by

FIGURES = re.compile(r"^(RATE|RATIO) (\w+) ([\d.]+)$", re.M)


@pytest.mark.slow
def test_the_short_form_prints_every_row_and_the_figures_last(
    host_modules: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """With one step of tuning the experts draw nothing well; what is printed is whole."""
    printed = printed_by("experts", "--quick", capsys=capsys)
    found = FIGURES.findall(printed)
    names = ["experts_names", "experts_looks", "routed_distance", "static_distance"]
    assert [name for _, name, _ in found] == ["experts_time", *names] and found[0][0] == "RATIO"
    row = r"^(full|0\.\d+ (?:routed narrower|uniform width|\w+)|EasyCache|\d+ steps, as 0\.\d+) .*?(\d\.\d\d\d) "
    rows, others = (
        dict(re.findall(row, printed, re.M)),
        {"0.75 routed", "0.6 static", "0.6 uniform width", "0.6 routed narrower", "0.6 routed"},
    )
    assert rows["full"] == "0.000" and others <= rows.keys() and len(rows) >= 7
