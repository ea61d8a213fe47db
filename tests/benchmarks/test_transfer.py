"""Runs the measurement of prefixes on fine-tuned models in its short form, and reads what it prints."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from anonymize_faces.prefix import save_prefix
from anonymize_faces.tests.support.prefixes import random_prefix
from anonymize_faces.tools.layout import ROOT

RATES = re.compile(r"^RATE transfer_(\w+) (-?[\d.]+)  (.+)$", re.M)
ROWS = re.compile(r"^(the original|another drawing style|other things|both merged) .*?  (\d\.\d+) \(", re.M)


@pytest.mark.slow
def test_the_short_form_tells_every_kind_and_what_falls_short(tmp_path: Path) -> None:
    """A prefix of no size hides nobody on other checkpoints, and two steps teach a copy nobody."""
    prefix = save_prefix(random_prefix({"l": 192}, 1, 0), tmp_path / "one.safetensors")
    command = [sys.executable, "-m", "anonymize_faces.benchmarks.transfer", "--quick", "--prefix", str(prefix)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = {(kind, way): float(rate) for kind, rate, way in RATES.findall(done.stdout)}
    assert ("checkpoints_more", "one") in found
    assert {kind for kind, way in found if way == "plain"} == {"full", "LoRA", "embedding"}
    assert "falls short: full, plain" in done.stdout
    rows = dict(ROWS.findall(done.stdout))
    assert rows["the original"] == "1.000" and len(rows) == 4
