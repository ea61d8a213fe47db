"""Figures in a prefix's record, and how edited ones are told from measured ones."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from anonymize_faces.prefix import Prefix, PrefixRecord, PrefixValueError, load_prefix, save_prefix
from anonymize_faces.prefix.scored import scores_hold, with_scores

PLAIN = Prefix(
    {"l": torch.ones(2, 3)}, PrefixRecord(family="sd1", fingerprint="0" * 16, scores={"identity_signal_left": 0.2})
)
SCORES = {"identification_rate": 0.05, "preservation": 0.125}
PROVENANCE = {"protocol": 1, "model": {"fingerprint": "abc"}, "settings": {"seed": 3, "prompts": ["{name}"]}}


def edited(prefix: Prefix, **fields) -> Prefix:
    return Prefix(prefix.vectors, dataclasses.replace(prefix.record, **fields))


def test_figures_hold_as_they_were_measured_through_a_file_too(tmp_path):
    prefix = with_scores(PLAIN, SCORES, PROVENANCE)
    again = load_prefix(save_prefix(prefix, tmp_path / "p.safetensors"))
    assert scores_hold(prefix) is scores_hold(again) is True
    assert dict(again.record.scores) == {"identity_signal_left": 0.2, **SCORES}
    assert again.record.evaluation["settings"] == PROVENANCE["settings"]


def test_a_prefix_that_was_not_evaluated_has_no_figures_to_hold():
    assert scores_hold(PLAIN) is None


def test_edited_figures_provenance_and_vectors_are_told(tmp_path):
    prefix = with_scores(PLAIN, SCORES, PROVENANCE)
    record = prefix.record
    better = edited(prefix, scores={**record.scores, "identification_rate": 0.0})
    both = edited(better, evaluation={**record.evaluation, "scores": {**SCORES, "identification_rate": 0.0}})
    missing = edited(prefix, scores={"identity_signal_left": 0.2})
    elsewhere = edited(prefix, evaluation={**record.evaluation, "settings": {"seed": 4}})
    moved = Prefix({"l": torch.zeros(2, 3)}, record)
    empty = edited(prefix, evaluation={"sha256": record.evaluation["sha256"]})
    for changed in (better, both, missing, elsewhere, moved, empty):
        assert scores_hold(changed) is False
        assert scores_hold(load_prefix(save_prefix(changed, tmp_path / "p.safetensors", overwrite=True))) is False


def test_a_new_evaluation_takes_the_place_of_the_last_one():
    twice = with_scores(with_scores(PLAIN, SCORES, PROVENANCE), {"fid": 3.0}, PROVENANCE | {"protocol": 2})
    assert dict(twice.record.scores) == {"identity_signal_left": 0.2, "fid": 3.0}
    assert scores_hold(twice) is True


def test_figures_need_a_provenance_and_must_be_numbers():
    with pytest.raises(PrefixValueError, match="what produced them"):
        with_scores(PLAIN, SCORES, {})
    with pytest.raises(PrefixValueError, match="finite"):
        with_scores(PLAIN, {"fid": float("nan")}, PROVENANCE)
