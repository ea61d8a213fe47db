"""A broken prefix does not pass for a sound one."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from anonymize_faces.prefix import FORMAT_VERSION, AnonymizationError, Prefix, PrefixRecord, PrefixValueError

RECORD = PrefixRecord(family="sd1", fingerprint="abc")


def test_a_prefix_knows_its_length_and_widths():
    prefix = Prefix({"l": torch.zeros(3, 8), "g": torch.zeros(3, 12)}, RECORD)
    assert (prefix.length, prefix.widths) == (3, {"g": 12, "l": 8})


def test_a_prefix_cannot_be_changed_from_outside():
    vectors = {"l": torch.zeros(3, 8)}
    prefix = Prefix(vectors, RECORD)
    vectors["l"] += 1
    assert not prefix.vectors["l"].any()
    with pytest.raises(TypeError):
        prefix.vectors["g"] = torch.zeros(3, 8)
    with pytest.raises(dataclasses.FrozenInstanceError):
        prefix.record = RECORD


def test_a_prefix_made_in_inference_mode_can_be_learned_on():
    with torch.inference_mode():
        prefix = Prefix({"l": torch.zeros(3, 8)}, RECORD)
    assert not prefix.vectors["l"].is_inference()


@pytest.mark.parametrize(
    "vectors",
    [
        {},
        [],
        {"l": torch.zeros(0, 8)},
        {"l": torch.zeros(3, 0)},
        {"l": torch.zeros(8)},
        {"l": torch.zeros(1, 3, 8)},
        {"l": torch.zeros(3, 8).half()},
        {"l": torch.zeros(3, 8).double()},
        {"l": torch.zeros(3, 8).to_sparse()},
        {"l": torch.full((3, 8), float("nan"))},
        {"l": torch.full((3, 8), float("inf"))},
        {"l": [[0.0]]},
        {"l": torch.zeros(3, 8), "g": torch.zeros(4, 8)},
        {"": torch.zeros(3, 8)},
        {"../l": torch.zeros(3, 8)},
        {"__metadata__": torch.zeros(3, 8)},
        {1: torch.zeros(3, 8)},
    ],
)
def test_vectors_that_cannot_be_a_prefix_are_refused(vectors):
    with pytest.raises(PrefixValueError):
        Prefix(vectors, RECORD)


def test_a_record_survives_json_whole():
    record = PrefixRecord(
        family="sdxl",
        fingerprint="0123",
        settings={"vectors": 10, "learning_rate": 1e-3, "people": ["a", None, True]},
        identities=48,
        steps=400,
        date="2026-01-01T00:00:00Z",
        scores={"trained.identification_rate": 0.05},
        name="demo",
        notes="née “ü”",
    )
    assert PrefixRecord.from_json(record.to_json()) == record


def test_a_record_ignores_what_later_versions_only_add():
    assert PrefixRecord.from_json(RECORD.to_json()[:-1] + ', "mood": 1}') == RECORD


def test_a_record_of_another_format_version_is_refused_with_the_remedy():
    text = RECORD.to_json().replace(f'"format_version": {FORMAT_VERSION}', '"format_version": 99')
    with pytest.raises(PrefixValueError, match="update Anonymize Faces"):
        PrefixRecord.from_json(text)


@pytest.mark.parametrize(
    "fields",
    [
        {"family": 1},
        {"identities": -1},
        {"steps": True},
        {"steps": 1.5},
        {"settings": []},
        {"settings": {"x": object()}},
        {"settings": {"x": float("nan")}},
        {"scores": {"x": "good"}},
        {"scores": {"x": float("inf")}},
    ],
)
def test_an_unsound_record_is_refused(fields):
    with pytest.raises(PrefixValueError):
        PrefixRecord(**{"family": "sd1", "fingerprint": "abc"} | fields)


@pytest.mark.parametrize("text", ["", "nonsense", "[]", "1", "{}", '{"family": "sd1"}', "[" * 100_000, "1" * 5000])
def test_a_record_that_is_not_one_is_refused(text):
    with pytest.raises(AnonymizationError):
        PrefixRecord.from_json(text)


def test_a_record_tells_the_layers_it_was_learned_at_in_order():
    record = dataclasses.replace(RECORD, layers={"l": [-1, -2], "g": (-2,)})
    assert record.layers == {"g": (-2,), "l": (-2, -1)}
    assert PrefixRecord.from_json(record.to_json()) == record
    assert '"layers": {"g": [-2], "l": [-2, -1]}' in record.to_json()
    with pytest.raises(TypeError):
        record.layers["l"] = (-3,)


def test_a_record_from_before_layers_were_told_tells_none():
    text = RECORD.to_json().replace(', "layers": {}', "")
    assert "layers" not in text
    assert PrefixRecord.from_json(text).layers == {}


@pytest.mark.parametrize(
    "layers",
    [
        None,
        [],
        [-1],
        "l",
        {"l": -1},
        {"l": []},
        {"l": "-1"},
        {"l": [0]},
        {"l": [1]},
        {"l": [-1, 0]},
        {"l": [-1.0]},
        {"l": [True]},
        {"l": [None]},
        {"l": [-1, -1]},
        {"l": [-(10**400)]},
        {"l": {-1: 1}},
        {"": [-1]},
        {"../l": [-1]},
        {1: [-1]},
        {"l": list(range(-5000, 0))},
    ],
)
def test_layers_that_cannot_be_are_refused(layers):
    with pytest.raises(PrefixValueError):
        dataclasses.replace(RECORD, layers=layers)


def test_layers_of_an_encoder_without_vectors_are_refused():
    with pytest.raises(PrefixValueError, match="'g'"):
        Prefix({"l": torch.zeros(3, 8)}, dataclasses.replace(RECORD, layers={"g": [-2]}))
