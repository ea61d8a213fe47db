"""Which blocks go: those whose loss costs least for what it saves, within what may be kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
import torch

from anonymize_faces.engines.pruning.parts import DenoiserPart
from anonymize_faces.experts.codes import Gates, at_random, exchanged, kept_share, least_sensitive
from anonymize_faces.prefix.errors import ExpertsError

SENSITIVITY = {"a": 0.5, "b": 0.01, "c": 0.02, "d": 0.3}
PARTS = tuple(DenoiserPart(name, 0.1, name) for name in SENSITIVITY)


def error(removed: Sequence[str]) -> float:
    return sum(SENSITIVITY[name] for name in removed)


def test_the_least_sensitive_blocks_go_first_and_no_more_than_needed() -> None:
    assert least_sensitive(PARTS, 0.8, error) == ("b", "c")
    assert least_sensitive(PARTS, 0.85, error) == ("b", "c"), "one block is not enough"
    assert least_sensitive(PARTS, 1.0, error) == ()


def test_a_large_block_goes_before_a_small_one_that_is_as_dear() -> None:
    parts = (DenoiserPart("b", 0.02, "b"), DenoiserPart("c", 0.2, "c"), DenoiserPart("d", 0.1, "d"))
    assert least_sensitive(parts, 0.85, error) == ("c",)


def test_what_depends_on_others_is_measured_with_them_gone() -> None:
    def either(removed: Sequence[str]) -> float:
        return error(removed) + (1.0 if {"b", "c"} <= set(removed) else 0.0)

    assert least_sensitive(PARTS, 0.8, either) == ("b", "d")


def test_more_than_there_is_cannot_go() -> None:
    with pytest.raises(ExpertsError, match="still makes 60% of its multiplications: keep more"):
        least_sensitive(PARTS, 0.5, error)


def test_blocks_at_random_keep_within_the_budget_too() -> None:
    chosen = [at_random(PARTS, 0.8, torch.Generator().manual_seed(seed)) for seed in range(8)]
    assert all(kept_share(PARTS, removed) <= 0.8 + 1e-6 for removed in chosen) and len(set(chosen)) > 2


def test_gates_learn_which_blocks_are_needed_from_a_wrong_start() -> None:
    gates = Gates(PARTS, ("a", "d"), 0.8, torch.Generator().manual_seed(0))

    def loss(values: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return sum(((1 - values[name]) * SENSITIVITY[name] for name in values), torch.zeros(()))

    assert set(gates.removed) == {"a", "d"}
    for _ in range(300):
        gates.step(loss)
    assert set(gates.removed) == {"b", "c"}


def test_blocks_that_matter_together_are_exchanged() -> None:
    """Each of the two is cheap to remove, but not beside the other."""

    def together(removed: Sequence[str]) -> float:
        return error(removed) + (5.0 if {"b", "c"} <= set(removed) else 0.0)

    greedy = ("b", "c")
    better = exchanged(PARTS, greedy, 0.8, together)
    assert together(better) < together(greedy) and len(better) == 2 and kept_share(PARTS, better) <= 0.8 + 1e-9
    assert exchanged(PARTS, greedy, 0.8, error) == greedy, "what is best stays"
    assert exchanged(PARTS, (), 1.0, error) == ()
