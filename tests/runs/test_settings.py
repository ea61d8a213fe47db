"""What a field says of a setting holds wherever it is used."""

from __future__ import annotations

import argparse
import ast
import dataclasses
import math
import re
from collections.abc import Iterator
from typing import Any

import pytest

from anonymize_faces.engines.options import Computing, Drawing
from anonymize_faces.evaluation.settings import EvaluationSettings, QualitySettings
from anonymize_faces.photos.settings import AttackSettings
from anonymize_faces.prefix.errors import AnonymizationError
from anonymize_faces.runs.settings import METADATA, Described, add_option, all_described
from anonymize_faces.tools.layout import ROOT
from anonymize_faces.trainer.presets import PRESETS, UNREAD_STEPS, values_of
from anonymize_faces.trainer.settings import TrainingSettings

OF_EVERY_FIELD = (TrainingSettings, Computing, Drawing, QualitySettings)
ALL = [(kind, about) for kind in (*OF_EVERY_FIELD, EvaluationSettings, AttackSettings) for about in all_described(kind)]


@pytest.mark.parametrize("kind", OF_EVERY_FIELD)
def test_every_setting_is_described_but_switches_for_measurements(kind: type) -> None:
    left_out = [field.name for field in dataclasses.fields(kind) if METADATA not in field.metadata]
    assert left_out == (["streams_warm_up", "shards", "unread_steps", "text_only"] if kind is TrainingSettings else [])


@pytest.mark.parametrize(("kind", "about"), ALL)
def test_help_is_sentences_and_the_default_lies_in_the_range_that_widgets_offer(kind: type, about: Described) -> None:
    assert about.help[0].isupper() or not about.help[0].isalpha()
    assert about.help.endswith(".")
    low, high = about.offered or (about.least, about.most)
    if low is not None and high is not None:
        assert low <= about.default <= high or about.default == about.automatic


@pytest.mark.parametrize(
    ("kind", "about"), [entry for entry in ALL if entry[0] in (TrainingSettings, EvaluationSettings, AttackSettings)]
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
    add_option(parser, Computing, "precision", besides="Here it is another one")
    add_option(parser, Drawing, "cfg", shown="the model's own")
    told = " ".join(parser.format_help().split())
    assert "of longer ones the end must be learned (default: 16)" in told
    assert "they are quick (default: the preset's)" in told
    assert "in float32; here it is another one (default: model)" in told
    assert "guidance, as in KSampler (default: the model's own)" in told
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


@pytest.mark.parametrize("preset", PRESETS)
def test_fewer_steps_where_names_are_unread_unless_the_steps_are_set(preset: str) -> None:
    chosen = TrainingSettings(preset=preset)
    assert chosen.where_unread(True).steps == UNREAD_STEPS[preset] < chosen.steps
    assert chosen.where_unread(False).steps == chosen.steps and not chosen.where_unread(False).overshoot
    assert TrainingSettings(preset=preset, steps=700).where_unread(True).steps == 700
    assert TrainingSettings(preset=preset, steps=700, unread_steps=5).where_unread(True).steps == 5
    assert chosen.where_unread(True).where_unread(True) == chosen.where_unread(True)
    fixed = TrainingSettings(preset=preset, conditional=False)
    assert fixed.unread_steps == fixed.steps
    with pytest.raises(AnonymizationError, match="At least one step"):
        TrainingSettings(unread_steps=-1)


@pytest.mark.parametrize("preset", PRESETS)
def test_the_help_page_has_the_presets(preset: str) -> None:
    page = (ROOT / "web" / "docs" / "TrainAnonymizationPrefix.md").read_text(encoding="utf-8")
    (row,) = [line for line in page.splitlines() if line.startswith(f"| `{preset}` |")]
    chosen = TrainingSettings(preset=preset)
    said = [int(number) for number in re.findall(r"\d+", row)]
    drawn = (chosen.people_drawn, chosen.portraits_per_identity, chosen.general_drawn)
    assert said[:-1] == [chosen.steps, chosen.unread_steps, *drawn]
    assert said[-1] == math.floor(100 * chosen.held_out + 0.5)


def test_presets_go_from_less_to_more_and_the_middle_one_is_the_default() -> None:
    assert TrainingSettings() == TrainingSettings(preset="balanced")
    quick, balanced, thorough = PRESETS.values()
    assert all(quick[name] <= balanced[name] <= thorough[name] for name in quick)


def test_a_preset_that_there_is_not_is_named_with_those_that_there_are() -> None:
    with pytest.raises(AnonymizationError, match="no preset 'fast': choose one of quick, balanced, thorough"):
        TrainingSettings(preset="fast")


def calls(name: str, node: ast.AST | None) -> bool:
    return isinstance(node, ast.Call) and name == getattr(node.func, "id", getattr(node.func, "attr", ""))


def defaults_of(module: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    """What a module says that inputs and options are, or an `execute` is not given, by name."""
    for node in ast.walk(module):
        if isinstance(node, ast.Call) and any(calls(name, node) for name in ("add_argument", "add", "Input")):
            name = ast.literal_eval(node.args[0]) if node.args and isinstance(node.args[0], ast.Constant) else ""
            for given in node.keywords:
                if given.arg == "default":
                    yield str(name).lstrip("-").replace("-", "_"), given.value
        if isinstance(node, ast.FunctionDef) and node.name == "execute":
            parameters = node.args.args[len(node.args.args) - len(node.args.defaults) :]
            yield from ((one.arg, value) for one, value in zip(parameters, node.args.defaults, strict=True))


def test_no_widget_option_or_parameter_repeats_the_number_that_a_described_setting_has() -> None:
    folders = ("nodes", "cli", "evaluation", "photos", "captions", "trainer", "finetuning", "experts", "engines")
    modules = {
        path.relative_to(ROOT).as_posix(): ast.parse(path.read_text(encoding="utf-8"))
        for folder in folders
        for path in sorted((ROOT / folder).rglob("*.py"))
    }
    settings: dict[str, set[str]] = {}
    for module in modules.values():
        for node in module.body:
            if isinstance(node, ast.ClassDef):
                fields = [
                    part for part in node.body if isinstance(part, ast.AnnAssign) and calls("setting", part.value)
                ]
                settings[node.name] = {part.target.id for part in fields if isinstance(part.target, ast.Name)}
    assert {"rank", "learning_rate"} <= settings["FinetuningSettings"]
    repeated = []
    for file, module in modules.items():
        used = {node.id for node in ast.walk(module) if isinstance(node, ast.Name)} & settings.keys()
        names = {name for kind in used for name in settings[kind]}
        for name, value in defaults_of(module):
            if name in names and isinstance(value, ast.Constant) and type(value.value) in (int, float):
                repeated.append(f"{file}: {name}")
    assert repeated == []
