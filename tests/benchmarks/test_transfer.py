"""Runs the measurement of prefixes on fine-tuned models in its short form, and reads what it prints."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from anonymize_faces.prefix import save_prefix
from anonymize_faces.tests.support.benchmark_runs import printed_by
from anonymize_faces.tests.support.prefixes import random_prefix

RATES = re.compile(r"^RATE transfer_(\w+) (-?[\d.]+)  (.+)$", re.M)
ROWS = re.compile(r"^(the original|another drawing style|other things|both merged) .*?  (\d\.\d+) \(", re.M)


@pytest.mark.slow
def test_the_short_form_tells_every_kind_and_what_falls_short(
    host_modules: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A prefix of no size hides nobody on other checkpoints, and two steps teach a copy nobody."""
    prefix = save_prefix(random_prefix({"l": 192}, 1, 0), tmp_path / "one.safetensors")
    printed = printed_by("transfer", "--quick", "--prefix", str(prefix), capsys=capsys)
    found = {(kind, way): float(rate) for kind, rate, way in RATES.findall(printed)}
    assert ("checkpoints_more", "one") in found
    assert {kind for kind, way in found if way == "plain"} == {"full", "LoRA", "embedding"}
    assert "falls short: full, plain" in printed
    rows = dict(ROWS.findall(printed))
    assert rows["the original"] == "1.000" and len(rows) == 4
