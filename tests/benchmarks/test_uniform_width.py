"""All layers narrowed alike: within the compute that is asked for, by the norms of their weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from anonymize_faces.benchmarks.support.uniform_width import uniform_width
from anonymize_faces.experts.widths import kept_share
from anonymize_faces.prefix.errors import ExpertsError

Make = Callable[..., Any]


@pytest.fixture
def prunable(make_checkpoint: Make, make_denoiser: Make) -> Any:
    """What can be taken out of a tiny SD1."""
    from anonymize_faces.engines.comfy.expert_parts import prunable

    checkpoint = make_checkpoint()
    return prunable(make_denoiser(checkpoint), checkpoint.model)


@pytest.mark.parametrize("keep", [0.75, 0.5])
def test_no_more_is_left_than_asked_for_and_all_layers_keep_alike(prunable: Any, keep: float) -> None:
    kept = uniform_width(prunable, keep).kept
    with prunable.denoiser.gradients(1):
        share = kept_share(prunable.unit_shares(), kept)
    assert keep - 0.15 < share <= keep
    widths = [float(mask.float().mean()) for mask in kept.values() if len(mask) >= 32]
    assert max(widths) - min(widths) < 0.1


def test_units_of_the_smallest_weights_go(prunable: Any) -> None:
    units = next(units for units in prunable.units.values() if units.parts == 2)
    into, out = (prunable.network.get_submodule(name) for name in (units.into[0], units.out))
    with torch.no_grad():
        for part in range(2):
            into.weight[part * units.count + 5] *= 1e-3
        out.weight[:, 5] *= 1e-3
    assert not uniform_width(prunable, 0.95).kept[units.name][5]


def test_less_than_the_narrowest_is_refused(prunable: Any) -> None:
    with pytest.raises(ExpertsError, match="more than 1% is left: keep more"):
        uniform_width(prunable, 0.01)
