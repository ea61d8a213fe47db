"""Runs the measurement of protected photos in a form of seconds, and reads what it prints."""

from __future__ import annotations

import re

import pytest

from anonymize_faces.tests.support.benchmark_runs import printed_by

FIGURES = re.compile(r"^(?:RATE|RATIO) (photo_\w+) ([\d.]+)$", re.M)


@pytest.mark.slow
def test_the_short_form_prints_every_figure_that_is_asked_for(
    host_modules: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """With two steps nobody is protected and nobody is learned; what is printed is whole."""
    printed = printed_by("photo_protection", "--quick", "--people", "1", "--steps", "2", capsys=capsys)
    found = dict(FIGURES.findall(printed))
    rates = [f"photo_rank1_{name}" for name in ("clean", "random", "protected", "jpeg")]
    assert list(found) == [*rates, "photo_passes"] and float(found["photo_passes"]) <= 1 / 3
    assert "encoder withstand" in printed and "JPEG 75" in printed
