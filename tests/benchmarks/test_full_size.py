"""What computing less saves in a call, on a UNet that is small: what goes, and what is printed."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from anonymize_faces.benchmarks.support.full_size import innermost, narrowed_calls
from anonymize_faces.engines.pruning.parts import DenoiserPart
from anonymize_faces.prefix.errors import ExpertsError

NAMES = ("input_blocks.1.1", "input_blocks.2.1", "middle_block.1", "output_blocks.1.1", "output_blocks.2.1")
PARTS = tuple(DenoiserPart(name, 0.1, name) for name in NAMES)


def test_the_innermost_blocks_go_first_until_enough_are_gone() -> None:
    assert innermost(PARTS, 1.0) == ()
    assert innermost(PARTS, 0.95) == ("middle_block.1",)
    assert innermost(PARTS, 0.7) == ("middle_block.1", "input_blocks.2.1", "output_blocks.1.1")
    with pytest.raises(ExpertsError, match="keep more"):
        innermost(PARTS, 0.4)


def test_calls_are_measured_in_turns_and_the_network_stays_whole(
    make_checkpoint: Callable[..., Any], make_denoiser: Callable[..., Any]
) -> None:
    from anonymize_faces.engines.comfy.expert_parts import prunable

    checkpoint = make_checkpoint()
    what = prunable(make_denoiser(checkpoint), checkpoint.model)
    calls = narrowed_calls(what, (0.7,), 2)
    assert len(calls) == 2
    for keep, call in calls:
        assert keep == 0.7 and 0.5 < call.share <= 0.7 and len(call.seconds.subject) == 2
        assert 0 < call.weights[0] < call.weights[1]
    assert not any("forward" in vars(module) for module in what.network.modules())
    told = "\n".join(line for keep, call in calls for line in call.lines(keep))
    assert re.findall(r"^RATIO (\w+) [\d.]+$", told, re.M) == [
        "full_size_70_time", "full_size_70_weights", "full_size_70_narrower_time", "full_size_70_narrower_weights",
    ]  # fmt: skip
