"""Shows that embeddings are fitted against a prefix while it is learned, and that it is learned against them."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from anonymize_faces.engines.micro_batches import MicroBatches
from anonymize_faces.tests.support.breaking_off import BrokenOffError
from anonymize_faces.tests.support.pipelines import tiny_pipeline
from anonymize_faces.tests.support.prefixes import numbers
from anonymize_faces.trainer.data.identities import parse_identities
from anonymize_faces.trainer.data.plain_text import PlainText
from anonymize_faces.trainer.parallel.team import ALONE
from anonymize_faces.trainer.presets import BALANCED, QUICK, THOROUGH
from anonymize_faces.trainer.progress import Callbacks, Progress
from anonymize_faces.trainer.settings import TrainingSettings
from anonymize_faces.trainer.stages.hardening import EMBEDDINGS, LENGTHS, LIFE, STEP, Attackers, with_moved
from anonymize_faces.trainer.stages.text_distance import text_distance
from anonymize_faces.trainer.start import start_vectors
from anonymize_faces.trainer.training import learn_prefix

Make = Callable[..., Any]
PEOPLE = parse_identities("Ada Lovelace: a woman with dark hair\nBob Miller: a man\nCy Young: a man with a hat")
GENERAL = ("", "a red circle", "a dog in the snow", "a house")
SETTINGS = TrainingSettings(
    harden=0.5,
    steps=10,
    batch_size=4,
    vectors=3,
    portraits_per_identity=1,
    noisings_per_picture=2,
    snapshot_every=3,
    shards=1,
    general_drawn=8,
)
NAMES = [("a portrait of Ada Lovelace", None), ("Bob Miller", None)]


def learn(denoiser: Any, settings: TrainingSettings = SETTINGS, runs: Path | None = None, **options: Any) -> Any:
    with torch.inference_mode():
        return learn_prefix(denoiser, PEOPLE, GENERAL, settings, Callbacks(**options), runs=runs)


def comfy(make_checkpoint: Make, make_denoiser: Make, family: str) -> Any:
    return make_denoiser(make_checkpoint(family=family))


def diffusers(family: str) -> Any:
    from anonymize_faces.engines.diffusers.denoiser import DiffusersDenoiser
    from anonymize_faces.engines.options import Drawing

    return DiffusersDenoiser(tiny_pipeline(family), (64, 64), Drawing(steps=2, cfg=2.0))


def test_presets_say_whether() -> None:
    assert all(TrainingSettings(preset=preset).harden == 0.5 for preset in (QUICK, BALANCED, THOROUGH))
    assert TrainingSettings(preset=BALANCED, conditional=False).harden == 0.0
    assert TrainingSettings(preset=THOROUGH, harden=0.0).harden == 0.0


@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("engine", ["comfy sd1", "comfy sdxl", "diffusers sd1", "diffusers flux"])
def test_an_embedding_comes_nearer_to_the_name_with_each_move(
    engine: str, conditional: bool, make_checkpoint: Make, make_denoiser: Make
) -> None:
    made_of, family = engine.split()
    denoiser = comfy(make_checkpoint, make_denoiser, family) if made_of == "comfy" else diffusers(family)
    names = [(prompt, denoiser.layers[0]) for prompt, _ in NAMES]
    prompts = [prompt for prompt, _ in names]
    embeddings: dict[str, torch.Tensor] = {}
    with denoiser.gradients(4):
        parameters = start_vectors(denoiser, dataclasses.replace(SETTINGS, conditional=conditional))
        plain, batches = PlainText(denoiser), MicroBatches(denoiser, 4)
        attackers = Attackers(denoiser, plain, 0)

        def apart(embedding: dict[str, torch.Tensor]) -> float:
            with torch.no_grad():
                count = SETTINGS.vectors + len(next(iter(embedding.values())))
                said = denoiser.encode(prompts, parameters, embedding=embedding)
                students = denoiser.text_states(prompts, said, count)
                goals = denoiser.text_states(prompts, plain.of(prompts))
            return sum(float(text_distance(*pair)) for pair in zip(students, goals, strict=True))

        found = []
        for move in range(8):
            embedding = attackers.moved(embeddings, parameters, names, move * EMBEDDINGS, batches, ALONE)
            assert embedding is not None
            embeddings = with_moved(embeddings, move * EMBEDDINGS, embedding)
            found.append(apart(embedding))
    assert min(found[4:]) < found[0]
    assert {name.split(".")[0] for name in embeddings} == {"0"}


def test_embeddings_take_turns_move_by_a_share_of_the_spread_and_begin_anew(
    make_checkpoint: Make, make_denoiser: Make
) -> None:
    denoiser = comfy(make_checkpoint, make_denoiser, "sd1")
    names = [(prompt, denoiser.layers[0]) for prompt, _ in NAMES]
    embeddings: dict[str, torch.Tensor] = {}
    with denoiser.gradients(4):
        parameters = start_vectors(denoiser, SETTINGS)
        attackers = Attackers(denoiser, PlainText(denoiser), 0)

        def moved(step: int) -> torch.Tensor:
            found = attackers.moved(embeddings, parameters, names, step, MicroBatches(denoiser, 4), ALONE)
            assert found is not None
            embeddings.update(with_moved(embeddings, step, found))
            return found["l"].clone()

        firsts = [moved(step) for step in range(EMBEDDINGS)]
        assert [len(rows) for rows in firsts] == list(LENGTHS)
        second = moved(EMBEDDINGS)
        change = (second - firsts[0]).abs() / (STEP * firsts[0].std())
        assert float(change[change > 1e-3].mean()) == pytest.approx(1.0, rel=1e-3)
        anew = moved(EMBEDDINGS * LIFE)
        assert len(anew) == LENGTHS[1] and set(embeddings) == {f"{number}.l" for number in range(EMBEDDINGS)}


@pytest.mark.parametrize("conditional", [False, True])
def test_a_hardened_run_that_is_killed_goes_on_to_the_same_prefix(
    conditional: bool, make_checkpoint: Make, make_denoiser: Make, tmp_path: Path
) -> None:
    denoiser = comfy(make_checkpoint, make_denoiser, "sd1")
    settings = dataclasses.replace(SETTINGS, conditional=conditional)
    runs, killed = tmp_path / "runs", tmp_path / "killed"

    def copy(progress: Progress) -> None:
        if progress.steps == 7:
            shutil.copytree(runs, killed)

    whole = learn(denoiser, settings, runs, report=copy)
    again = learn(denoiser, settings, killed)
    assert "went on from step 6" in " ".join(again.notes)
    assert torch.equal(numbers(whole.prefix), numbers(again.prefix))
    soft = learn(denoiser, dataclasses.replace(settings, harden=0.0))
    assert not torch.equal(numbers(whole.prefix), numbers(soft.prefix))


def test_a_hardened_run_goes_on_to_the_same_prefix_wherever_a_step_was_broken_off(
    make_checkpoint: Make, make_denoiser: Make, tmp_path: Path
) -> None:
    """Be it after the step's embedding has moved."""
    denoiser = comfy(make_checkpoint, make_denoiser, "sd1")
    settings = dataclasses.replace(SETTINGS, steps=EMBEDDINGS + 1, conditional=False)
    made: list[int] = [0]
    checks: list[int] = []  # How many steps were made before each.

    def note(progress: Progress) -> None:
        made.append(progress.steps)

    whole = learn(denoiser, settings, check=lambda: checks.append(made[-1]), report=note)
    # Of the first step whose embedding is not drawn anew.
    within = [number for number, step in enumerate(checks, 1) if step == EMBEDDINGS]
    assert len(within) >= 2
    for number in within:
        left = [number]

        def check(left: list[int] = left) -> None:
            left[0] -= 1
            if not left[0]:
                raise BrokenOffError

        with pytest.raises(BrokenOffError):
            learn(denoiser, settings, tmp_path / str(number), check=check)
        again = learn(denoiser, settings, tmp_path / str(number))
        assert torch.equal(numbers(whole.prefix), numbers(again.prefix)), number


def test_some_of_the_names_and_nothing_else_stand_behind_an_embedding(
    make_checkpoint: Make, make_denoiser: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    denoiser = comfy(make_checkpoint, make_denoiser, "sd1")
    behind: list[list[str]] = []
    encode = denoiser.encode

    def watched(prompts: Any, vectors: Any = None, layers: Any = None, embedding: Any = None) -> Any:
        if embedding is not None and not any(rows.requires_grad for rows in embedding.values()):
            behind.append(list(prompts))
        return encode(prompts, vectors, layers, embedding)

    monkeypatch.setattr(denoiser, "encode", watched)
    learn(denoiser)
    names = [identity.name for identity in PEOPLE]
    assert len(behind) == SETTINGS.steps
    assert all(any(name in prompt for name in names) for prompts in behind for prompt in prompts)
    assert all(1 <= len(prompts) <= 2 for prompts in behind)


def test_encoders_of_which_nothing_can_be_told_apart_are_told_at_the_end(
    make_checkpoint: Make, make_denoiser: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    denoiser = comfy(make_checkpoint, make_denoiser, "sd1")
    assert "'harden' did nothing" not in " ".join(learn(denoiser).notes)
    monkeypatch.setattr(denoiser, "text_states", lambda prompts, conditioning, prefix=0: [None] * len(prompts))
    assert "'harden' did nothing" in " ".join(learn(denoiser).notes)
