"""Runs the attacks on a demo model, in their short form, and holds what they print against how much is protected."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from anonymize_faces.prefix import save_prefix
from anonymize_faces.tests.support.benchmark_runs import printed_by
from anonymize_faces.tests.support.prefixes import random_prefix

RATES = re.compile(r"^RATE attack_worst_(\w+) ([\d.]+|nan)$", re.M)


@pytest.mark.slow
def test_what_protects_nothing_is_got_around_by_all_means(
    host_modules: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A prefix of no size leaves prompts as they are, but for ten positions."""
    prefix = save_prefix(random_prefix({"l": 192}, 1, 0), tmp_path / "one.safetensors")
    printed = printed_by("attacks", "--quick", "--prefix", str(prefix), capsys=capsys)
    rates = {kind: float(rate) for kind, rate in RATES.findall(printed)}
    assert set(rates) == {"words", "discrete", "soft", "settings"}
    assert rates["words"] > 0.8 and rates["settings"] > 0.8
    assert "over a photo, denoise 0.3" in printed and "named places and mascots" in printed
