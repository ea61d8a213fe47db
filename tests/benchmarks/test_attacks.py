"""Runs the attacks on a demo model, in their short form, and holds what they print against how much is protected."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from anonymize_faces.prefix import save_prefix
from anonymize_faces.tests.support.prefixes import random_prefix
from anonymize_faces.tools.layout import ROOT

RATES = re.compile(r"^RATE attack_worst_(\w+) ([\d.]+|nan)$", re.M)


@pytest.mark.slow
def test_what_protects_nothing_is_got_around_by_all_means(tmp_path: Path) -> None:
    """A prefix of no size leaves prompts as they are, but for ten positions."""
    prefix = save_prefix(random_prefix({"l": 192}, 1, 0), tmp_path / "one.safetensors")
    command = [sys.executable, "-m", "anonymize_faces.benchmarks.attacks", "--quick", "--prefix", str(prefix)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    rates = {kind: float(rate) for kind, rate in RATES.findall(done.stdout)}
    assert set(rates) == {"words", "discrete", "soft", "settings"}
    assert rates["words"] > 0.8 and rates["settings"] > 0.8
    assert "over a photo, denoise 0.3" in done.stdout and "named places and mascots" in done.stdout
