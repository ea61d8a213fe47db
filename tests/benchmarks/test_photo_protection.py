"""Runs the measurement of protected photos in a form of seconds, and reads what it prints."""

from __future__ import annotations

import re
from pathlib import Path
from unittest.mock import Mock

import pytest

from anonymize_faces.photos import attack
from anonymize_faces.tests.support.benchmark_runs import printed_by

FIGURES = re.compile(r"^(?:RATE|RATIO) (photo_\w+) ([\d.]+)$", re.M)


@pytest.mark.slow
def test_the_short_form_prints_every_figure_that_is_asked_for(
    host_modules: None, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With two steps nobody is protected and nobody is learned; what is printed is whole, and nothing is done twice."""
    asked = ("photo_protection", "--quick", "--people", "1", "--steps", "2", "--keep", str(tmp_path))
    printed = printed_by(*asked, capsys=capsys)
    found = dict(FIGURES.findall(printed))
    rates = [f"photo_rank1_{name}" for name in ("clean", "random", "protected", "jpeg")]
    assert list(found) == [*rates, "photo_passes"] and float(found["photo_passes"]) <= 1 / 3
    assert "encoder withstand" in printed and "JPEG 75" in printed
    first, *_ = tmp_path.iterdir()
    first.write_text("{", encoding="utf-8")
    finetuned = Mock(wraps=attack.finetuned)
    monkeypatch.setattr(attack, "finetuned", finetuned)
    again = printed_by(*asked, capsys=capsys)
    assert FIGURES.findall(again) == FIGURES.findall(printed) and finetuned.call_count == 1
