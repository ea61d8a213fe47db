"""Shows that a conditional prefix is learned in every engine: its network, and nothing else of prefix or model."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from anonymize_faces.engines.vectors import learned as learned_of
from anonymize_faces.prefix import TrainingError, load_prefix, save_prefix
from anonymize_faces.prefix.meta_network import LEARNED, made_vectors, network_of, vectors_of
from anonymize_faces.prefix.name_words import NEVER, leaves_names_unread
from anonymize_faces.tests.support.breaking_off import BrokenOffError
from anonymize_faces.tests.support.prefixes import numbers
from anonymize_faces.trainer.data.identities import parse_identities
from anonymize_faces.trainer.data.pairs import first_prompts
from anonymize_faces.trainer.data.targets import TargetPool
from anonymize_faces.trainer.loop import BEGAN_AT_DESCRIPTIONS, BEGAN_AT_RANDOM, NAMES_UNREAD
from anonymize_faces.trainer.plan import Plan
from anonymize_faces.trainer.presets import BALANCED, PRESETS
from anonymize_faces.trainer.progress import Callbacks, Progress
from anonymize_faces.trainer.settings import TrainingSettings
from anonymize_faces.trainer.start import SOME_PROMPTS, start_vectors
from anonymize_faces.trainer.state import new_state
from anonymize_faces.trainer.training import learn_prefix
from anonymize_faces.trainer.validation import Subjects

Make = Callable[..., Any]
PEOPLE = parse_identities("Ada Lovelace: a woman with dark hair\nBob Miller: a man\nCy Young: a man with a hat")
GENERAL = ("", "a red circle", "a dog in the snow", "a house")
SETTINGS = TrainingSettings(
    conditional=True,
    steps=14,
    batch_size=4,
    vectors=3,
    portraits_per_identity=2,
    noisings_per_picture=2,
    snapshot_every=4,
    shards=1,
    patience=0,
    general_drawn=8,
)


def learn(
    denoiser: Any,
    runs: Path | None = None,
    report: Callable[[Progress], None] = lambda progress: None,
    settings: TrainingSettings = SETTINGS,
) -> Any:
    with torch.inference_mode():
        return learn_prefix(denoiser, PEOPLE, GENERAL, settings, Callbacks(report=report), runs=runs)


def test_presets_say_less_of_the_text_encoder_and_more_of_the_denoiser() -> None:
    fixed, conditional = TrainingSettings(conditional=False), TrainingSettings()
    assert (fixed.steps, fixed.text_steps) == (PRESETS[BALANCED]["steps"], PRESETS[BALANCED]["text_steps"])
    assert conditional.text_steps == 0 and conditional.steps > fixed.steps
    assert conditional.patience == 0 < fixed.patience
    assert (fixed.general_weight, conditional.general_weight) == (4.0, 1.0)
    assert (fixed.overshoot, conditional.overshoot) == (0.15, 0.3)
    assert TrainingSettings(overshoot=0.0).overshoot == 0.0
    assert conditional.conditional and TrainingSettings(steps=7, general_weight=3.0).general_weight == 3.0


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_the_network_is_learned_and_the_vectors_that_prompts_are_read_behind_stay(
    family: str, make_checkpoint: Make, make_denoiser: Make, tmp_path: Path
) -> None:
    denoiser = make_denoiser(make_checkpoint(family=family))
    start = start_vectors(denoiser, SETTINGS)
    assert len(learned_of(start)) == len(LEARNED) * len(denoiser.token_embeddings("a"))
    learned = learn(denoiser)
    prefix = learned.prefix
    assert prefix.is_conditional and prefix.record.steps == 14 and prefix.record.settings["conditional"] is True
    for key in prefix.widths:
        assert torch.equal(prefix.vectors[key], start[key])
    if learned.best.step:
        for key in prefix.widths:
            assert prefix.networks[f"{key}/offset"].abs().max() > 0
    assert torch.equal(numbers(load_prefix(save_prefix(prefix, tmp_path / "one.safetensors"))), numbers(prefix))
    plain, prefixed = (denoiser.sample(["Ada Lovelace"], [1], used) for used in (None, prefix.parameters))
    assert not torch.allclose(plain, prefixed, atol=1e-4)


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
@pytest.mark.parametrize("init", ["", "a stranger"])
def test_it_begins_at_the_description_of_whoever_is_named_or_near_words(
    family: str, init: str, make_checkpoint: Make, make_denoiser: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anonymize_faces.engines.starting.reading.LEAST_TOLD", -2.0)  # Of people that it knows.
    denoiser = make_denoiser(make_checkpoint(family=family))
    first = first_prompts(Subjects(PEOPLE, GENERAL), 0)
    settings = dataclasses.replace(SETTINGS, init=init)
    with torch.inference_mode(), denoiser.gradients(1):
        start = start_vectors(denoiser, settings, first)
        said = denoiser.states_read(first.named, {key: rows.detach() for key, rows in vectors_of(start).items()})
    parts = len(LEARNED) + (not init)  # Also what stands in the place of names.
    assert len(learned_of(start)) == parts * len(vectors_of(start)) > 0
    for key, always in vectors_of(start).items():
        network = network_of(start, key)
        off, apart = [], []
        goals = {words: denoiser.token_embeddings(words)[key] for words in {*first.described} - {""}}
        mean = torch.stack([rows[[index % len(rows) for index in range(3)]] for rows in goals.values()]).mean(0)
        for states, words in zip(said, first.described, strict=True):
            if words:
                made = made_vectors(
                    always,
                    network,
                    states[key].states[None],
                    torch.ones(1, len(states[key].states), dtype=torch.bool),
                )
                goal = goals[words][[index % len(goals[words]) for index in range(3)]]
                off.append((made.vectors[0] - goal).square().sum())
                apart.append((mean - goal).square().sum())
        share = float(torch.stack(off).detach().sum() / torch.stack(apart).sum())
        assert share > 1 if init else share < 0.5


@pytest.mark.parametrize(
    ("least", "init", "told"),
    [(-2.0, "", [BEGAN_AT_DESCRIPTIONS, NAMES_UNREAD]), (2.0, "", [BEGAN_AT_RANDOM]), (-2.0, "a stranger", [])],
)
def test_what_it_began_from_is_told_also_of_a_run_that_was_broken_off(
    least: float,
    init: str,
    told: list[str],
    make_checkpoint: Make,
    make_denoiser: Make,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr("anonymize_faces.engines.starting.reading.LEAST_TOLD", least)
    settings = dataclasses.replace(SETTINGS, init=init, steps=2)
    denoiser = make_denoiser(make_checkpoint())

    def leave(progress: Progress) -> None:
        if progress.history:
            raise BrokenOffError

    with pytest.raises(BrokenOffError):
        learn(denoiser, tmp_path, leave, settings)
    monkeypatch.setattr("anonymize_faces.engines.starting.reading.LEAST_TOLD", 0.0)  # It is not asked again.
    notes = learn(denoiser, tmp_path, settings=settings).notes
    assert [note for note in notes if note in (BEGAN_AT_DESCRIPTIONS, BEGAN_AT_RANDOM, NAMES_UNREAD)] == told


@pytest.mark.parametrize("looks", ["told", "untold", "all alike"])
def test_a_name_that_is_not_read_is_learned_from_as_nobodys_and_nothing_lies_past_its_goal(
    looks: str, make_checkpoint: Make, make_denoiser: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Names are left unread where the text encoder tells looks by them, or where no looks are to be told."""
    monkeypatch.setattr("anonymize_faces.engines.starting.reading.LEAST_TOLD", -2.0 if looks == "told" else 2.0)
    pools = []

    class Watched(TargetPool):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            pools.append(self)

    monkeypatch.setattr("anonymize_faces.trainer.loop.TargetPool", Watched)
    people = [dataclasses.replace(one, description="a person") for one in PEOPLE] if looks == "all alike" else PEOPLE
    denoiser, seen, told = make_denoiser(make_checkpoint()), list[tuple[bool, str]](), list[Progress]()
    plans: list[Plan] = []
    gentle: list[bool] = []

    def begin(vectors: Any, settings: Any, gently: bool = False) -> Any:
        gentle.append(gently)
        return new_state(vectors, settings, gently)

    monkeypatch.setattr("anonymize_faces.trainer.loop.new_state", begin)
    encode = denoiser.encode

    def watched(prompts: Any, vectors: Any = None, *rest: Any, **named: Any) -> Any:
        if vectors is not None and torch.is_grad_enabled():
            seen.extend((leaves_names_unread(vectors) and not sees_none(vectors), prompt) for prompt in prompts)
        return encode(prompts, vectors, *rest, **named)

    def sees_none(vectors: Any) -> bool:
        return all(bool((rows == NEVER).all()) for name, rows in vectors.items() if "finder_threshold" in name)

    denoiser.encode = watched
    with torch.inference_mode():
        settings = dataclasses.replace(SETTINGS, unread_steps=9)
        learned = learn_prefix(denoiser, people, GENERAL, settings, Callbacks(report=told.append, plan=plans.append))
    unread = looks != "untold"
    steps = 9 if looks == "told" else 14
    assert gentle == [looks == "told"]
    assert told[-1].of[2] == told[-1].steps == learned.prefix.record.steps == steps
    assert [plan.evaluations.learning for plan in plans] == [3 * 4 * count for count in dict.fromkeys((14, steps))]
    assert all(after.done / sum(after.of) >= before.done / sum(before.of) for before, after in pairwise(told))
    recorded = learned.prefix.record.settings
    assert (recorded["steps"], recorded["overshoot"]) == (steps, 0.0 if unread else 0.3)
    begun = {BEGAN_AT_DESCRIPTIONS, BEGAN_AT_RANDOM}.intersection(learned.notes)
    assert begun == {"told": {BEGAN_AT_DESCRIPTIONS}, "untold": {BEGAN_AT_RANDOM}}.get(looks, set())
    assert [pool.overshoot for pool in pools] == [0.0 if unread else 0.3]
    assert (NAMES_UNREAD in learned.notes) is unread is leaves_names_unread(learned.prefix.parameters)
    assert learned.prefix.record.format_version == (5 if unread else 3)
    named = {finds for finds, prompt in seen if any(one.name in prompt for one in people)}
    others = {finds for finds, prompt in seen if prompt in GENERAL}
    assert named == {unread} and others == {False}
    path = save_prefix(learned.prefix, tmp_path / "one.safetensors")
    assert torch.equal(numbers(load_prefix(path)), numbers(learned.prefix))
    if unread and learned.best.step:
        drawn = [denoiser.sample([f"a portrait of {name}"], [1], learned.prefix.parameters) for name in ("Ada", "Bob")]
        assert torch.isfinite(torch.stack(drawn)).all()


def test_names_that_the_gate_lets_by_are_told(
    make_checkpoint: Make, make_denoiser: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    people = parse_identities("\n".join(f"Person{number} Name{number}: a woman" for number in range(12)))
    settings = dataclasses.replace(SETTINGS, steps=1, held_out=0.25)

    def notes() -> str:
        with torch.inference_mode():
            return " ".join(learn_prefix(make_denoiser(make_checkpoint()), people, GENERAL, settings).notes)

    monkeypatch.setattr("anonymize_faces.engines.starting.gates.NAMES_WEIGHT", 1e4)
    assert "The gate took" not in notes()
    monkeypatch.setattr("anonymize_faces.engines.starting.gates.NAMES_WEIGHT", 0.0)
    assert "The gate took 6 of 6 prompts that name people held out" in notes()


def test_a_run_that_is_killed_goes_on_with_its_network(
    make_checkpoint: Make, make_denoiser: Make, tmp_path: Path
) -> None:
    denoiser = make_denoiser(make_checkpoint())
    runs, killed = tmp_path / "runs", tmp_path / "killed"

    def copy(progress: Progress) -> None:
        if progress.steps == 9:
            shutil.copytree(runs, killed)

    whole = learn(denoiser, runs, copy)
    again = learn(denoiser, killed)
    assert "went on from step" in " ".join(again.notes)
    assert torch.equal(numbers(whole.prefix), numbers(again.prefix))
    assert dataclasses.replace(whole.prefix.record, date="") == dataclasses.replace(again.prefix.record, date="")


@pytest.mark.parametrize("when", ["encoding_prompts", "learning"])
def test_what_a_gate_is_fitted_to_is_read_once_tells_how_far_it_is_and_can_be_cancelled(
    when: str, make_checkpoint: Make, make_denoiser: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = dataclasses.replace(SETTINGS, steps=3)
    denoiser, asked = make_denoiser(make_checkpoint()), list[str]()
    states_read, seen = denoiser.states_read, list[Progress]()

    def read(prompts: Sequence[str], *rest: Any) -> Any:
        asked.extend(prompts)
        return states_read(prompts, *rest)

    def cancel(progress: Progress) -> None:
        seen.append(progress)
        if progress.stage.name == when and progress.stage.done > (9 if when == "encoding_prompts" else 1):
            raise KeyboardInterrupt

    monkeypatch.setattr(denoiser, "states_read", read)
    with pytest.raises(KeyboardInterrupt):
        learn(denoiser, tmp_path, cancel, short)
    gate = len(first_prompts(Subjects(PEOPLE, GENERAL), SETTINGS.seed).all)
    dry_step = len(SOME_PROMPTS.all)
    read_so_far = dry_step + (12 if when == "encoding_prompts" else gate)
    assert len(asked) == read_so_far and gate > 24
    asked.clear()
    learn(denoiser, tmp_path, seen.append, short)
    assert len(asked) == dry_step + (gate if when == "encoding_prompts" else 0)
    assert [entry.stage.name for entry in seen].count("encoding_prompts") > gate / SETTINGS.batch_size


def test_a_text_encoder_that_does_not_let_itself_be_read_is_told_before_anything_is_drawn(
    make_checkpoint: Make, make_denoiser: Make
) -> None:
    denoiser = make_denoiser(make_checkpoint())
    denoiser.states_read = lambda prompts, vectors: [{} for _ in prompts]
    with pytest.raises(TrainingError, match=r"does not let its states be read.*'conditional' off"):
        learn(denoiser)


def test_more_vectors_than_a_file_holds_are_told_before_anything_is_drawn(
    make_checkpoint: Make, make_denoiser: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anonymize_faces.engines.vectors.MAX_FILE_BYTES", 1000)
    with pytest.raises(TrainingError, match="set vectors lower"):
        learn(make_denoiser(make_checkpoint()))
