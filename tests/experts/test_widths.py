"""Which units layers keep: those that change most for the compute that they take, within what may be kept."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch

from anonymize_faces.engines.pruning.units import HiddenUnits, LeftOut
from anonymize_faces.experts.widths import ROUNDS, kept_share, least_important
from anonymize_faces.prefix.errors import ExpertsError

UNITS = {
    "a": HiddenUnits("a", ("a.in",), "a.out", 4),
    "b": HiddenUnits("b", ("b.in",), "b.out", 8, together=2),
}
SHARES = {"a": 0.4, "b": 0.4}
MATTERS = {
    "a": torch.tensor([4.0, 0.1, 3.0, 2.0]),
    "b": torch.tensor([0.2, 9.0, 0.1, 9.0, 0.3, 9.0, 9.0, 0.4]),
}


def importance(kept: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
    return MATTERS


def test_units_that_change_least_go_first_and_no_more_than_needed() -> None:
    kept = least_important(UNITS, SHARES, 0.7, importance)
    assert kept["a"].tolist() == [True, False, True, True], "a tenth of the compute for 0.1"
    assert kept["b"].tolist() == [False, True, False, True, False, True, True, False], "two at a time"
    assert kept_share(SHARES, kept) == pytest.approx(0.7)
    assert all(bool(mask.all()) for mask in least_important(UNITS, SHARES, 1.0, importance).values())


def test_so_many_stay_as_go_together() -> None:
    nothing = {name: torch.zeros(units.count) for name, units in UNITS.items()}
    kept = least_important(UNITS, SHARES, 0.41, lambda _: nothing)
    assert kept["a"].sum() == 1 and kept["b"].sum() == 2
    with pytest.raises(ExpertsError, match="still make 40% of its multiplications: keep more"):
        least_important(UNITS, SHARES, 0.3, importance)


def test_what_depends_on_others_is_measured_anew_with_them_gone() -> None:
    asked: list[dict[str, list[bool]]] = []

    def either(kept: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
        asked.append({name: mask.tolist() for name, mask in kept.items()})
        matters = torch.tensor([1.0, 0.1, 9.0 if not kept["a"][1] else 0.2, 2.0])
        return {"a": matters, "b": torch.full((8,), 50.0)}

    kept = least_important(UNITS, SHARES, 0.8, either)
    assert kept["a"].tolist() == [False, False, True, True]
    assert len(asked) == ROUNDS and all(asked[0]["a"]) and not asked[-1]["a"][1]


def test_what_is_left_out_is_told_from_others() -> None:
    mask = torch.tensor([True, False])
    keys = {LeftOut(("x",)).key, LeftOut(kept={"x": mask}).key, LeftOut(kept={"x": ~mask}).key, LeftOut().key}
    assert len(keys) == 4 and LeftOut(kept={"x": mask.clone()}).key in keys
