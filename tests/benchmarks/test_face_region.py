"""Runs the measurement of faces alone in its short form, and reads what it prints."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image

from anonymize_faces.prefix import save_prefix
from anonymize_faces.tests.support.benchmark_runs import printed_by
from anonymize_faces.tests.support.prefixes import demo_prefix, with_random_region

FIGURES = re.compile(r"^(RATE|RATIO) (\w+) ([\d.]+)$", re.M)


def test_the_short_form_prints_every_row_and_the_figures_last(
    host_modules: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, plot = tmp_path / "p.safetensors", tmp_path / "new" / "plot.png"
    save_prefix(with_random_region(demo_prefix(), threshold=0.2, steepness=0.1), file)
    said = printed_by("face_region", "--quick", "--prefix", str(file), "--plot", str(plot), capsys=capsys)
    assert [found[:2] for found in FIGURES.findall(said)] == [
        ("RATE", "region_identification"), ("RATE", "region_preservation"), ("RATIO", "region_time"),
    ]  # fmt: skip
    assert FIGURES.findall(said.splitlines()[-1])
    rows = dict(re.findall(r"^(mean, \w+) +(.*)$", said, re.M))
    moved = {name: [float(figure) for figure in row.split()][3] for name, row in rows.items()}
    assert moved["mean, plain"] == 0 < moved["mean, region"] < moved["mean, whole"]
    overlaps = [float(found) for found in re.findall(r"^  0\.\d+ +([01]\.\d+) ?#*$", said, re.M)]
    assert len(overlaps) >= 4 and all(0 < overlap < 1 for overlap in overlaps)
    for scene in ("one, 96 px", "one, 256 px", "tiny, 256 px"):
        assert re.search(rf"^{scene}( +[01]\.\d\d\d){{3}}$", said, re.M)
    assert Image.open(plot).size == (960, 540)
