"""Learning experts: what is measured once is not measured again."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from anonymize_faces.engines.diffusers.expert_parts import prunable
from anonymize_faces.engines.micro_batches import MicroBatches
from anonymize_faces.engines.options import Drawing
from anonymize_faces.experts.importance import unit_importance
from anonymize_faces.experts.learning import ExpertLearning
from anonymize_faces.experts.settings import WIDTHS, ExpertsSettings
from anonymize_faces.experts.widths import kept_share
from anonymize_faces.prefix.errors import ExpertsError
from anonymize_faces.tests.support.pipelines import tiny_pipeline

PROMPTS = ("a red circle", "a blue boat", "mountains", "a person with glasses")
EVERYTHING = range(len(PROMPTS))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[frozenset[str]]:
    """The blocks whose error together was asked for, one after the other."""
    found: list[frozenset[str]] = []
    own = ExpertLearning._error

    def count(self: ExpertLearning, measured: Any, removed: Sequence[str]) -> float:
        found.append(frozenset(removed))
        return own(self, measured, removed)

    monkeypatch.setattr(ExpertLearning, "_error", count)
    return found


def learning(whole_share: float = 0.0) -> ExpertLearning:
    settings = ExpertsSettings(pictures=len(PROMPTS), steps=0, tuning_steps=0, batch_size=4, whole_share=whole_share)
    return ExpertLearning(prunable(tiny_pipeline("sd1"), (64, 64), Drawing(2, 2.0)), PROMPTS, settings, dict)


def test_a_second_share_asks_for_fewer_errors_of_blocks_and_finds_the_same(asked: list[frozenset[str]]) -> None:
    alone = learning().keeping(0.6).chosen(EVERYTHING)
    wanted = len(asked)
    asked.clear()
    both = learning()
    first = both.keeping(0.8).chosen(EVERYTHING)
    before = set(asked)
    assert len(before) == len(asked) > 0, "nothing is asked for twice"
    asked.clear()
    assert both.keeping(0.6).chosen(EVERYTHING) == alone != first
    assert not before & set(asked) and 0 < len(asked) <= wanted - len(both.parts), "the first round of blocks at least"
    asked.clear()
    assert both.keeping(0.6).chosen(EVERYTHING) == alone and not asked


def test_other_pictures_and_another_expert_are_measured_anew(asked: list[frozenset[str]]) -> None:
    one = learning()
    one.keeping(0.8).chosen(EVERYTHING)
    wanted = len(asked)
    for group, number in (([0, 1], 0), (EVERYTHING, 1)):
        asked.clear()
        one.keeping(0.8).chosen(group, number)
        assert len(asked) >= len(one.parts) and wanted > 0


def test_the_compute_of_the_last_steps_is_counted_in_what_is_kept() -> None:
    settings = ExpertsSettings(keep=0.75, whole_share=1 / 3)
    assert settings.whole_until == pytest.approx(0.25) and settings.keep_above == pytest.approx(2 / 3)
    whole = ExpertsSettings(keep=1.0, whole_share=0.5)
    assert whole.keep_above == pytest.approx(1.0)
    everywhere = ExpertsSettings(keep=0.75, whole_share=0.0)
    assert (everywhere.whole_until, everywhere.keep_above) == (0.0, 0.75)


def test_blocks_are_measured_where_they_are_left_out() -> None:
    for whole_share, least in ((0.5, 0.4), (0.0, 0.0)):
        one = learning(whole_share).keeping(0.8)
        with one._denoiser.gradients(4):
            t = one._noised(EVERYTHING, "here", 16).t
        assert least <= float(t.min()) < least + 0.1 and float(t.max()) > 0.9


def narrower(keep: float) -> ExpertLearning:
    return learning().keeping(keep, WIDTHS)


def test_layers_are_narrowed_to_the_share_that_may_be_kept() -> None:
    one = narrower(0.8)
    left_out = one.chosen(EVERYTHING)
    assert not left_out.blocks and left_out.kept.keys() == one._prunable.units.keys()
    assert 0.7 < kept_share(one.shares, left_out.kept) <= 0.8
    assert one.chosen(EVERYTHING).key == left_out.key, "the same seed, the same units"


def test_units_that_change_nothing_go_first() -> None:
    one = narrower(0.9)
    units = next(units for units in one._prunable.units.values() if not units.are_heads and units.parts == 1)
    idle = units.channels(torch.arange(units.count) < 2, one._prunable.network.get_submodule(units.out).weight.shape[1])
    with torch.no_grad():
        one._prunable.network.get_submodule(units.out).weight[:, idle] = 0
    assert one.chosen(EVERYTHING).kept[units.name][:2].tolist() == [False, False]


def test_importance_is_what_a_unit_changes_to_first_order() -> None:
    """Beside how far the denoiser is from the whole one when a unit is a hundredth less open."""
    one = narrower(0.9)
    prunable, small = one._prunable, 0.01
    whole = {name: torch.ones(units.count, dtype=torch.bool) for name, units in prunable.units.items()}
    with one._denoiser.gradients(4):
        measured = one._noised(EVERYTHING, "here", 4)
        random, micro_batches = torch.Generator().manual_seed(0), MicroBatches(one._denoiser, 2)
        asked = prunable, measured, one._read[""], random, whole, micro_batches
        rounds = [unit_importance(*asked) for _ in range(24)]
        found = {name: torch.stack([each[name] for each in rounds]).mean(0) / 4 for name in whole}
        for name in list(whole)[:3]:
            gate = torch.ones(prunable.units[name].count)
            gate[0] -= small
            with _gated(prunable, {name: gate}):
                answered = one._answered(measured.noised, measured.t, measured.conditioning)
            change = answered.conditional - measured.whole.conditional, answered.guided - measured.whole.guided
            length = measured.whole.conditional.norm(), (measured.whole.guided - measured.whole.conditional).norm()
            wanted = (change[0].norm() / length[0]) ** 2 + ((change[1] - change[0]).norm() / length[1]) ** 2
            assert float(found[name][0]) == pytest.approx(float(wanted) / small**2, rel=0.5)


def _gated(prunable: Any, gates: Any) -> Any:
    from anonymize_faces.engines.pruning.units import gated_units

    return gated_units(prunable.network, prunable.units, gates)


def test_a_model_whose_layers_nobody_narrows_is_refused() -> None:
    what = dataclasses.replace(prunable(tiny_pipeline("sd1"), (64, 64), Drawing(2, 2.0)), units={})
    settings = ExpertsSettings(pictures=len(PROMPTS), leave_out=WIDTHS)
    with pytest.raises(ExpertsError, match="Nobody has tried to narrow the layers of this model"):
        ExpertLearning(what, PROMPTS, settings, dict)
