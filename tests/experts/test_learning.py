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


def learning() -> ExpertLearning:
    settings = ExpertsSettings(pictures=len(PROMPTS), steps=0, tuning_steps=0, batch_size=4)
    return ExpertLearning(prunable(tiny_pipeline("sd1"), (64, 64), Drawing(2, 2.0)), PROMPTS, settings, dict)


def test_a_second_share_asks_for_fewer_errors_of_blocks_and_finds_the_same(asked: list[frozenset[str]]) -> None:
    alone = learning().chosen(EVERYTHING, keep=0.6)
    wanted = len(asked)
    asked.clear()
    both = learning()
    first = both.chosen(EVERYTHING, keep=0.8)
    before = set(asked)
    assert len(before) == len(asked) > 0, "nothing is asked for twice"
    asked.clear()
    assert both.chosen(EVERYTHING, keep=0.6) == alone != first
    assert not before & set(asked) and 0 < len(asked) <= wanted - len(both.parts), "the first round of blocks at least"
    asked.clear()
    assert both.chosen(EVERYTHING, keep=0.6) == alone and not asked


def test_other_pictures_and_another_expert_are_measured_anew(asked: list[frozenset[str]]) -> None:
    one = learning()
    one.chosen(EVERYTHING, keep=0.8)
    wanted = len(asked)
    for group, number in (([0, 1], 0), (EVERYTHING, 1)):
        asked.clear()
        one.chosen(group, number, keep=0.8)
        assert len(asked) >= len(one.parts) and wanted > 0
