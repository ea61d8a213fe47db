"""A layer at which no prefix can be learned is left out: of what is learned from, and of what the record promises."""

from __future__ import annotations

import dataclasses
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from anonymize_faces.demo.loader import load_demo_model
from anonymize_faces.demo.world.people import identities
from anonymize_faces.engines.denoiser import Layer
from anonymize_faces.tests.support.prefixes import numbers
from anonymize_faces.trainer.data.identities import parse_identities
from anonymize_faces.trainer.data.pictures import Pair
from anonymize_faces.trainer.data.plain_text import PlainText
from anonymize_faces.trainer.progress import Callbacks, Learned, Progress
from anonymize_faces.trainer.settings import TrainingSettings
from anonymize_faces.trainer.stages.learnable_layers import learnable, left_out_note, signal_left, spread_over
from anonymize_faces.trainer.training import learn_prefix
from anonymize_faces.trainer.validation import Validation

Make = Callable[..., Any]
PEOPLE = parse_identities("Ada Lovelace: a woman with dark hair\nBob Miller: a man\nCy Young: a man with a hat")
SETTINGS = TrainingSettings(
    text_steps=7, steps=6, batch_size=4, vectors=3, portraits_per_identity=2, noisings_per_picture=2, snapshot_every=2
)


@pytest.mark.parametrize(
    ("left", "kept"),
    [
        ({None: 0.06, -2: 0.7}, (None,)),
        ({None: 0.7, -2: 0.06}, (-2,)),  # The artist's own layer is no exception: it would not protect there.
        ({None: 0.06, -2: 0.4}, (None, -2)),
        ({None: 0.6, -2: 0.9}, (None, -2)),  # Little was learned at either yet.
        ({None: 1.0, -2: 1.0}, (None, -2)),
        ({None: float("nan"), -2: float("nan")}, (None, -2)),
    ],
)
def test_a_layer_is_left_out_where_much_is_left_and_others_do_better(
    left: dict[Layer, float], kept: tuple[Layer, ...]
) -> None:
    assert learnable(left) == kept
    assert bool(left_out_note(left, kept)) == (len(kept) < 2)


@pytest.mark.parametrize(
    ("left", "kept"),
    [
        ({None: 0.06, -2: 0.7}, (None,)),
        ({None: 0.7, -2: 0.06}, (-2,)),
        ({None: 0.06, -2: 0.4}, (None, -2)),
        ({None: 0.3, -2: 0.59}, (None,)),  # While there is more to learn, it stays.
        ({None: 0.475, -2: 0.94}, (None,)),
        ({None: 0.6, -2: 0.9}, (None,)),
        ({None: 0.9, -2: 0.6}, (None, -2)),  # Nothing was learned at either: it can be used where it was learned.
        ({None: 0.98, -2: 0.8}, (None, -2)),
        ({None: 0.52, -2: 0.4}, (-2,)),
        ({None: 0.98, -2: 1.02}, (None, -2)),  # It does nothing anywhere, and the report says so.
        ({None: 1.0, -2: 1.0}, (None, -2)),
        ({None: float("nan"), -2: float("nan")}, (None, -2)),
    ],
)
def test_a_finished_prefix_promises_no_layer_at_which_much_is_left_however_bad_the_best_one_is(
    left: dict[Layer, float], kept: tuple[Layer, ...]
) -> None:
    assert learnable(left, finished=True) == kept
    assert bool(left_out_note(left, kept)) == (len(kept) < 2)


def test_on_the_demo_model_words_that_take_from_a_name_take_alike_at_both_of_its_layers(host_modules: None) -> None:
    from anonymize_faces.engines.comfy.denoiser import ComfyDenoiser

    denoiser = ComfyDenoiser(*load_demo_model(), (96, 96))
    pairs = [Pair(f"a portrait of {one.name}", f"a portrait of {one.description}", True) for one in identities()[:4]]

    def left(words: str) -> dict[Layer, float]:
        return signal_left(denoiser, denoiser.token_embeddings(words), pairs, denoiser.layers, PlainText(denoiser))

    with denoiser.gradients(1):
        hiding, saying_nothing = left("a neighbour of,"), left("a red circle")
    assert set(hiding) == {None, -2}
    assert max(hiding.values()) < 0.75 < 1.0 < min(saying_nothing.values())
    assert learnable(hiding) == learnable(saying_nothing) == (None, -2) and not left_out_note(hiding, (None, -2))


def test_layers_are_judged_by_people_from_everywhere_in_the_list() -> None:
    pairs = [Pair(f"name {number}", "a person", number % 2 == 0) for number in range(200)]
    asked = [pair.student for pair in spread_over(pairs)]
    assert len(asked) == 24 and asked[0] == "name 0" and int(asked[-1].split()[1]) > 150
    assert spread_over(pairs[:2]) == pairs[:1]


def learn(denoiser: Any, runs: Path | None, report: Callable[[Progress], None] = lambda progress: None) -> Learned:
    with torch.inference_mode():
        return learn_prefix(denoiser, PEOPLE, ("", "a red circle"), SETTINGS, Callbacks(report), runs=runs)


@pytest.mark.parametrize("broken_off", [Progress(0, 5, 0, (0, 7, 6, 0)), Progress(0, 7, 5, (0, 7, 6, 0))])
def test_what_follows_is_learned_at_the_others_alone_and_a_run_that_is_killed_goes_on_with_them(
    broken_off: Progress, make_checkpoint: Make, make_denoiser: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(
        "anonymize_faces.trainer.stages.learnable_layers.signal_left", lambda *anything: {None: 0.1, -2: 0.9}
    )
    denoiser = make_denoiser(make_checkpoint())
    runs, killed = tmp_path / "runs", tmp_path / "killed"
    read: dict[tuple[int, int], Counter] = {}
    encode, now = denoiser.encode, [0, 0]

    def watched(prompts: Any, vectors: Any = None, layers: Any = None, embedding: Any = None) -> Any:
        if vectors is not None:
            read.setdefault(tuple(now), Counter()).update(layers)
        return encode(prompts, vectors, layers, embedding)

    def copy(progress: Progress) -> None:
        now[:] = progress.text_steps, progress.steps
        if now == [broken_off.text_steps, broken_off.steps] and not killed.exists():
            shutil.copytree(runs, killed)

    denoiser.encode = watched
    whole = learn(denoiser, runs, copy)
    assert {at: set(layers) for at, layers in read.items() if at[0] < 2} == {(made, 0): {None, -2} for made in range(2)}
    assert {layer for at, layers in read.items() if at[0] >= 2 for layer in layers} == {None}
    assert whole.prefix.record.layers == {}
    assert "No prefix can be learned at clip skip 2" in " ".join(whole.notes)
    again = learn(denoiser, killed)
    assert "went on from step" in " ".join(again.notes) and "learned at clip skip 2" in " ".join(again.notes)
    assert torch.equal(numbers(whole.prefix), numbers(again.prefix))
    assert dataclasses.replace(whole.prefix.record, date="") == dataclasses.replace(again.prefix.record, date="")


@pytest.mark.parametrize("text_steps", [0, 7])
@pytest.mark.parametrize("last", [(0.1, 0.8), (0.45, 0.85)])
def test_the_record_names_no_layer_at_which_the_prefix_itself_leaves_much(
    last: tuple[float, float],
    text_steps: int,
    make_checkpoint: Make,
    make_denoiser: Make,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[int] = []

    def left(denoiser: Any, vectors: Any, pairs: Any, layers: Any, *_: Any) -> dict[Layer, float]:
        asked.append(len(layers))
        return dict.fromkeys(layers, 0.1)

    monkeypatch.setattr("anonymize_faces.trainer.stages.learnable_layers.signal_left", left)
    monkeypatch.setattr(Validation, "left_by_layer", lambda own, _: dict(zip(own.layers, last, strict=True)))
    settings = dataclasses.replace(SETTINGS, text_steps=text_steps)
    denoiser = make_denoiser(make_checkpoint())
    learned = learn_prefix(denoiser, PEOPLE, ("", "a red circle"), settings)
    assert asked == ([2] if text_steps else [])
    assert learned.prefix.record.layers == denoiser.record_layers([None])
    assert any("left out" in note for note in learned.notes)


def test_what_reads_no_names_holds_at_every_layer(
    make_checkpoint: Make, make_denoiser: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anonymize_faces.trainer.loop.leaves_names_unread", lambda _: True)
    monkeypatch.setattr(Validation, "left_by_layer", lambda own, _: dict.fromkeys(own.layers, 0.9))
    denoiser = make_denoiser(make_checkpoint())
    learned = learn_prefix(denoiser, PEOPLE, ("", "a red circle"), dataclasses.replace(SETTINGS, text_steps=0))
    assert learned.prefix.record.layers == denoiser.record_layers(denoiser.layers)
    assert not any("left out" in note for note in learned.notes)
