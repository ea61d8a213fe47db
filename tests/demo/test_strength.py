"""The curve of strength: its table, its plot and its verdict."""

from __future__ import annotations

import numpy as np
import pytest

from anonymize_faces.demo.strength import GROUPS, falls, plot, table
from anonymize_faces.faces.palette import BLUE, RED

FALLING = dict(zip(GROUPS, ([0.9, 0.6, 0.4, 0.1, 0.0], [0.8, 0.8, 0.5, 0.3, 0.1]), strict=True))


@pytest.mark.parametrize(
    ("row", "verdict"),
    [([0.9, 0.6, 0.4, 0.1, 0.0], True), ([0.9, 0.6, 0.7, 0.1, 0.0], False), ([0.5] * 5, False)],
)
def test_a_rate_that_rises_once_or_never_falls_is_noticed(row: list[float], verdict: bool) -> None:
    assert falls(FALLING | {next(iter(GROUPS)): row}) is verdict


def test_the_table_has_a_row_for_each_group() -> None:
    lines = table(FALLING).splitlines()
    assert lines[0] == "| strength | 0 | 0.25 | 0.5 | 0.75 | 1 |"
    assert lines[2:] == [
        "| 48 people learned on | 0.90 | 0.60 | 0.40 | 0.10 | 0.00 |",
        "| 16 people it never met | 0.80 | 0.80 | 0.50 | 0.30 | 0.10 |",
    ]


def test_the_plot_has_both_curves_and_they_fall() -> None:
    picture = np.asarray(plot(FALLING))[64:476, 97:].astype(int)
    for colour in (RED, BLUE):
        rows, columns = np.nonzero((np.abs(picture - colour) < 12).all(-1))
        left, right = (rows[(columns >= start) & (columns < start + 100)].mean() for start in (0, 730))
        assert left + 200 < right
