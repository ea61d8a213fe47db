"""Text encoders can be asked, and tell a prefix what to be."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch

from anonymize_faces.engines.denoiser import TextStates
from anonymize_faces.engines.micro_batches import MicroBatches
from anonymize_faces.prefix.meta_network import with_open_gates
from anonymize_faces.tests.support.text_encoders import make_clip
from anonymize_faces.trainer.data.pictures import Pair
from anonymize_faces.trainer.data.plain_text import PlainText
from anonymize_faces.trainer.objective import beyond
from anonymize_faces.trainer.settings import TrainingSettings
from anonymize_faces.trainer.stages.text_distance import text_distance
from anonymize_faces.trainer.stages.warm_start import can_start, start_of, warm_start
from anonymize_faces.trainer.start import start_vectors

Make = Callable[..., Any]
PAIRS = (
    Pair("A portrait of Ada Lovelace smiling", "A portrait of a woman with dark hair smiling", True),
    Pair("Alan Turing", "a man with short hair", True),
    Pair("a red circle", "a red circle", False),
    Pair("", "", False),
)
SETTINGS = TrainingSettings(conditional=False, vectors=4, text_steps=60)
"""As presets have it: they make no text steps of a conditional prefix."""


def states_of(denoiser: Any, prompts: list[str], vectors: dict[str, torch.Tensor] | None = None) -> list[Any]:
    length = 0 if vectors is None else len(next(iter(vectors.values())))
    return denoiser.text_states(prompts, denoiser.encode(prompts, vectors), length)


def start(denoiser: Any, vectors: dict[str, torch.Tensor], settings: TrainingSettings, size: int = 8, **options: Any):
    state = start_of(vectors)
    warm_start(denoiser, state, PAIRS, settings, MicroBatches(denoiser, size), PlainText(denoiser), **options)


def distances_of(denoiser: Any, vectors: dict[str, torch.Tensor], kind: bool) -> float:
    pairs = [pair for pair in PAIRS if pair.names_somebody is kind]
    students = states_of(denoiser, [pair.student for pair in pairs], with_open_gates(vectors))
    teachers = states_of(denoiser, [pair.teacher for pair in pairs])
    return sum(float(text_distance(s, t)) for s, t in zip(students, teachers, strict=True))


@pytest.fixture(params=["sd1", "sdxl"])
def denoiser(request: pytest.FixtureRequest, make_checkpoint: Make, make_denoiser: Make) -> Any:
    return make_denoiser(make_checkpoint(family=request.param))


def test_states_tell_where_a_prompts_words_stand(denoiser: Any) -> None:
    with denoiser.gradients(1), torch.no_grad():
        vectors = start_vectors(denoiser, SETTINGS)
        ((plain,),) = states_of(denoiser, ["a red circle"])
        ((prefixed,),) = states_of(denoiser, ["a red circle"], vectors)
        (entry,) = denoiser.encode(["a red circle"], vectors)
    assert plain.stop == 1 + 3 and prefixed.stop == 1 + 4 + 3
    assert plain.words == prefixed.words and len(set(plain.words)) == 3
    assert torch.equal(prefixed.states, entry[0][0])


def test_a_prompt_of_several_chunks_cannot_be_compared(denoiser: Any) -> None:
    with denoiser.gradients(1), torch.no_grad():
        short, long = states_of(denoiser, ["Ada", "word " * 100])
        filled = states_of(denoiser, ["word " * 73], start_vectors(denoiser, SETTINGS))
    assert short is not None and long is None and filled == [None]


@pytest.mark.parametrize("conditional", [False, True])
def test_the_text_encoder_alone_brings_names_to_their_looks_and_moves_others_little(
    conditional: bool, denoiser: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anonymize_faces.trainer.stages.warm_start.PAIRS_OF_A_KIND", 4)
    settings = dataclasses.replace(SETTINGS, conditional=conditional, overshoot=0.0)
    with denoiser.gradients(1):
        vectors = start_vectors(denoiser, settings)
        with torch.no_grad():
            before = [distances_of(denoiser, vectors, kind) for kind in (True, False)]
        steps: list[int] = []
        start(denoiser, vectors, settings, report=steps.append)
        with torch.no_grad():
            after = [distances_of(denoiser, vectors, kind) for kind in (True, False)]
    assert steps == list(range(1, 61))
    assert after[0] < 0.65 * before[0] and after[1] < 0.5 * before[1]


def test_micro_batches_make_no_difference(denoiser: Any) -> None:
    ends = []
    for size in (24, 5):
        with denoiser.gradients(1):
            vectors = start_vectors(denoiser, SETTINGS)
            settings = dataclasses.replace(SETTINGS, text_steps=3)
            start(denoiser, vectors, settings, size)
        ends.append({key: vector.detach() for key, vector in vectors.items()})
    for key, one in ends[0].items():
        torch.testing.assert_close(one, ends[1][key], rtol=1e-3, atol=1e-5)


def with_text_encoders(name: str, make_checkpoint: Make, make_denoiser: Make) -> Any:
    """An engine whose text encoders are those of a family, and whose denoiser is one for others: it is not asked."""
    denoiser = make_denoiser(dataclasses.replace(make_checkpoint(), clip=make_clip(name)))
    denoiser._kept_by_picture = 0
    return denoiser


def test_without_steps_or_states_that_can_be_told_apart_there_is_none(
    make_checkpoint: Make, make_denoiser: Make
) -> None:
    cases = (
        ("sd1", dataclasses.replace(SETTINGS, text_steps=0), False),
        ("hidream", SETTINGS, False),
        ("chroma and pixart", dataclasses.replace(SETTINGS, streams_warm_up=False), False),
        ("chroma and pixart", SETTINGS, True),
        ("sd1", dataclasses.replace(SETTINGS, streams_warm_up=False), True),
    )
    for name, settings, starts in cases:
        denoiser = with_text_encoders(name, make_checkpoint, make_denoiser)
        with denoiser.gradients(1):
            assert can_start(denoiser, PAIRS, settings, PlainText(denoiser)) is starts, name


@pytest.mark.parametrize("family", ["flux", "chroma and pixart", "z-image", "lumina 2"])
def test_t5_and_language_models_bring_names_to_their_looks_too(
    family: str, make_checkpoint: Make, make_denoiser: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anonymize_faces.trainer.stages.warm_start.PAIRS_OF_A_KIND", 4)
    denoiser = with_text_encoders(family, make_checkpoint, make_denoiser)
    settings = dataclasses.replace(SETTINGS, overshoot=0.0, text_steps=15)
    with denoiser.gradients(1):
        vectors = start_vectors(denoiser, settings)
        begun = {key: vector.detach().clone() for key, vector in vectors.items()}
        with torch.no_grad():
            before = [distances_of(denoiser, vectors, kind) for kind in (True, False)]
        start(denoiser, vectors, settings)
        with torch.no_grad():
            after = [distances_of(denoiser, vectors, kind) for kind in (True, False)]
    assert after[0] < 0.8 * before[0] and after[1] < 0.8 * before[1]
    for key, vector in vectors.items():
        assert ((vector - begun[key]).norm(dim=1) > 0.01).all(), key


def test_words_that_both_prompts_end_in_count_as_well() -> None:
    teacher = [TextStates(torch.zeros(8, 2), (5, 6, 7), 4)]
    states = torch.zeros(8, 2)
    states[4] = 1.0
    # Of the student's words 9 6 7 at 2, 3 and 4, behind a prefix of one vector, the last two are the teacher's too.
    student = [TextStates(states, (9, 6, 7), 5)]
    assert float(text_distance(student, teacher)) == pytest.approx(0.5 * 0.5)
    others = [TextStates(states, (9, 6, 8), 5)]
    assert float(text_distance(others, teacher)) == 0.0


def stream(words: tuple[int, ...], rows: list[float], before: int = 0) -> list[TextStates]:
    """States `[length, 2]` that say the same number twice: of what stands before, of the words, of what follows."""
    states = torch.tensor(rows).unsqueeze(1).expand(-1, 2)
    return [TextStates(states, words, before + len(words), is_stream=True)]


def test_of_a_stream_what_follows_differs_and_is_shared_counts_in_the_unit_of_the_teachers_numbers() -> None:
    teacher = stream((1, 5, 6, 2), [0.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0], before=1)  # A head, four words, a tail of two.
    same = stream((1, 9, 2), [7.0, 7.0, 2.0, 2.0, 2.0, 2.0, 2.0], before=2)  # With a prefix; three words.
    assert float(text_distance(same, teacher)) == 0.0
    name = stream((1, 9, 2), [7.0, 7.0, 2.0, 4.0, 2.0, 2.0, 2.0], before=2)
    assert float(text_distance(name, teacher)) == pytest.approx(1.0)  # Two of 2, squared.
    tail = stream((1, 9, 2), [7.0, 7.0, 2.0, 2.0, 2.0, 2.0, 4.0], before=2)
    assert float(text_distance(tail, teacher)) == pytest.approx(0.5)
    shared = stream((1, 9, 2), [7.0, 7.0, 4.0, 2.0, 2.0, 2.0, 2.0], before=2)
    assert float(text_distance(shared, teacher, shared_weight=3.0)) == pytest.approx(1.5)
    # The goal lies past the teacher, away from the name.
    past = stream((1, 9, 2), [7.0, 7.0, 2.0, 1.0, 2.0, 2.0, 2.0], before=2)
    assert float(text_distance(past, teacher, name, overshoot=0.5)) == pytest.approx(0.0)


def test_the_goal_lies_past_the_neutral_side() -> None:
    neutral, named = torch.tensor([1.0, 2.0]), torch.tensor([3.0, 2.0])
    assert torch.equal(beyond(neutral, named, 0.0), neutral)
    torch.testing.assert_close(beyond(neutral, named, 0.25), torch.tensor([0.5, 2.0]))
