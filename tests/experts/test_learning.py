"""Learning experts: what is measured once is not measured again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from anonymize_faces.engines.diffusers.expert_parts import prunable
from anonymize_faces.engines.options import Drawing
from anonymize_faces.experts.learning import ExpertLearning
from anonymize_faces.experts.settings import ExpertsSettings
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
