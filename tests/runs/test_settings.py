"""What a field says of a setting holds wherever it is used."""

from __future__ import annotations

import argparse
import dataclasses
import math
from typing import Any

import pytest

from anonymize_faces.engines.options import Computing, Drawing
from anonymize_faces.evaluation.settings import EvaluationSettings
from anonymize_faces.prefix.errors import AnonymizationError
from anonymize_faces.runs.settings import METADATA, Described, add_option, all_described
from anonymize_faces.trainer.presets import PRESETS, values_of
from anonymize_faces.trainer.settings import TrainingSettings

OF_EVERY_FIELD = (TrainingSettings, Computing, Drawing)
ALL = [(kind, about) for kind in (*OF_EVERY_FIELD, EvaluationSettings) for about in all_described(kind)]


@pytest.mark.parametrize("kind", OF_EVERY_FIELD)
def test_every_setting_is_described_but_switches_for_measurements(kind: type) -> None:
    left_out = [field.name for field in dataclasses.fields(kind) if METADATA not in field.metadata]
    assert left_out == (["streams_warm_up", "shards", "text_only"] if kind is TrainingSettings else [])


@pytest.mark.parametrize(("kind", "about"), ALL)
def test_help_is_sentences_and_the_default_lies_in_the_range_that_widgets_offer(kind: type, about: Described) -> None:
    assert about.help[0].isupper() or not about.help[0].isalpha()
    assert about.help.endswith(".")
    low, high = about.offered or (about.least, about.most)
    if low is not None and high is not None:
        assert low <= about.default <= high or about.default == about.automatic


@pytest.mark.parametrize(
    ("kind", "about"), [entry for entry in ALL if entry[0] in (TrainingSettings, EvaluationSettings)]
)
def test_what_is_out_of_range_is_refused_by_name(kind: type, about: Described) -> None:
    wrong: list[Any] = [] if about.least is None else [about.least if about.above else about.least - 1]
    wrong = [value for value in wrong if value != about.automatic]
    wrong += [] if about.most is None else [about.most + 1]
    wrong += [math.nan, math.inf] if isinstance(about.default, float) else []
    for value in wrong:
        with pytest.raises(AnonymizationError, match=about.name):
            kind(**{about.name: value})


def test_an_option_says_help_and_default_and_takes_the_type() -> None:
    parser = argparse.ArgumentParser()
    for about in all_described(TrainingSettings):
        add_option(parser, TrainingSettings, about.name)
    add_option(parser, Computing, "checkpointing")
    told = " ".join(parser.format_help().split())
    assert "length of the prefix; each vector takes the place of one token of the prompt (default: 10)" in told
    assert "they are quick (default: the preset's)" in told
    options = parser.parse_args(["--learning-rate", "0.5", "--vary-names", "--init", "a man", "--checkpointing", "on"])
    assert (options.learning_rate, options.vary_names, options.init, options.steps) == (0.5, True, "a man", None)


def test_a_switch_that_is_on_can_be_taken_off() -> None:
    parser = argparse.ArgumentParser()
    switches = [about.name for about in all_described(TrainingSettings) if about.default is True]
    for name in switches:
        add_option(parser, TrainingSettings, name)
    assert switches == ["conditional"] and "(default: --conditional)" in " ".join(parser.format_help().split())
    told = [parser.parse_args(arguments).conditional for arguments in ([], ["--conditional"], ["--no-conditional"])]
    assert told == [None, True, False]


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("conditional", [False, True])
def test_a_preset_sets_all_that_is_automatic_and_what_is_set_goes_before(preset: str, conditional: bool) -> None:
    chosen = TrainingSettings(preset=preset, conditional=conditional)
    automatic = [about for about in all_described(TrainingSettings) if about.automatic is not None]
    assert {about.name: getattr(chosen, about.name) for about in automatic} == values_of(preset, conditional)
    assert all(about.default == about.automatic for about in automatic)
    fewer = TrainingSettings(preset=preset, conditional=conditional, steps=7)
    assert fewer == dataclasses.replace(chosen, steps=7) != chosen
    assert TrainingSettings(**dataclasses.asdict(chosen)) == chosen


def test_presets_go_from_less_to_more_and_the_middle_one_is_the_default() -> None:
    assert TrainingSettings() == TrainingSettings(preset="balanced")
    quick, balanced, thorough = PRESETS.values()
    assert all(quick[name] <= balanced[name] <= thorough[name] for name in quick)


def test_a_preset_that_there_is_not_is_named_with_those_that_there_are() -> None:
    with pytest.raises(AnonymizationError, match="no preset 'fast': choose one of quick, balanced, thorough"):
        TrainingSettings(preset="fast")
