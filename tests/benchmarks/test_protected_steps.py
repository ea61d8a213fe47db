"""Runs the measurement of some steps alone in its short form, and reads what it prints."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from anonymize_faces.prefix import save_prefix
from anonymize_faces.tests.support.benchmark_runs import printed_by
from anonymize_faces.tests.support.prefixes import demo_prefix


def test_the_short_form_prints_every_row(
    host_modules: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "p.safetensors"
    save_prefix(demo_prefix(), file)
    said = printed_by("protected_steps", "--quick", "--prefix", str(file), capsys=capsys)
    rows = re.findall(r"^(all plain|all protected|25% plain, then protected)((?: +[\d.]+){5})$", said, re.M)
    assert [title for title, _ in rows] == ["all plain", "all protected", "25% plain, then protected"]
    moved = [float(figures.split()[-1]) for _, figures in rows]
    assert moved[0] == 0
    assert 0 < moved[2] < moved[1], "what is drawn plain first stays nearer to plain pictures"
