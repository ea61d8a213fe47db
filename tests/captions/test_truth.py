"""The benchmark of descriptions' truth, in short."""

from __future__ import annotations

import pytest

from anonymize_faces.benchmarks import captions


def test_descriptions_of_the_demo_are_true_and_certainty_trades_what_is_said_for_truth(
    host_modules: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert captions.main(["--quick"]) == 0
    *_, monotone, precision, left_out = capsys.readouterr().out.splitlines()
    assert monotone == "RATE certainty_trades_monotonically 1"
    assert precision.startswith("RATE caption_precision ") and float(precision.split()[-1]) >= 0.95
    assert left_out.startswith("RATE caption_left_out ") and float(left_out.split()[-1]) <= 0.15
