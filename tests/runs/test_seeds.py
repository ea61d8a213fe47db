"""How times, learning rates and seeds are spread over a run."""

from __future__ import annotations

import itertools

import pytest
import torch

from anonymize_faces.runs.seeds import STRATA, cpu_seeded, derived_seed, rate_factor, stratified_times
from anonymize_faces.tools.layout import ROOT


@pytest.mark.parametrize("rounds", [1, 3])
def test_every_stratum_gets_as_many_times(rounds: int) -> None:
    times = stratified_times(STRATA * rounds, torch.Generator().manual_seed(1))
    assert torch.bincount((times * STRATA).long(), minlength=STRATA).tolist() == [rounds] * STRATA


def test_few_times_lie_in_different_strata_inside_the_open_range() -> None:
    times = stratified_times(7, torch.Generator().manual_seed(2))
    assert len((times * STRATA).long().unique()) == 7
    assert times.min() > 0 and times.max() < 1


def test_the_rate_rises_to_its_peak_and_falls_towards_zero() -> None:
    factors = [rate_factor(step, 100, 0.1) for step in range(100)]
    peak = factors.index(max(factors))
    assert peak == 10 and factors[peak] == 1
    assert factors[:10] == sorted(factors[:10]) and factors[10:] == sorted(factors[10:], reverse=True)
    assert 0 < factors[-1] < 0.01


def test_a_run_of_one_step_has_a_rate() -> None:
    assert rate_factor(0, 1, 0.02) > 0


def test_seeds_of_different_runs_purposes_and_items_differ() -> None:
    cases = itertools.product((0, 1, 2**64 - 1), ("noise", "picture"), range(50))
    seeds = {derived_seed(*case) for case in cases}
    assert len(seeds) == 300
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_the_cpus_generator_alone_is_seeded_and_is_as_it_was_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(5)
    seeded = torch.randn(3)
    for device in (torch.cuda, torch.mps, torch.xpu):
        name = "manual_seed" if device is torch.mps else "manual_seed_all"
        monkeypatch.setattr(device, name, lambda seed: pytest.fail("a device's generator was seeded"))
    before = torch.random.get_rng_state()
    with cpu_seeded(5):
        assert torch.equal(torch.randn(3), seeded)
    with pytest.raises(RuntimeError, match="size"), cpu_seeded(6):
        torch.randn(3) + torch.randn(2)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_nothing_but_a_build_seeds_the_generators_of_all_devices() -> None:
    """Whoever draws with them in the same process, as hosts do, would draw something else."""
    others = ("tests", "benchmarks", "build")
    rooms = [path for path in ROOT.iterdir() if path.is_dir() and path.name not in others and path.name[0] != "."]
    paths = [path for room in rooms for path in room.rglob("*.py") if "making" not in path.parts]
    seeding = [path for path in paths if "torch.manual_seed(" in path.read_text(encoding="utf-8")]
    assert len(paths) > 100 and seeding == []
