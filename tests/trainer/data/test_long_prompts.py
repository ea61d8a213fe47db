"""Prompts of several chunks, and chunks of nothing but style: what a prefix meets in long prompts it learns from."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch

from anonymize_faces.demo.measuring.prompts import STYLE
from anonymize_faces.demo.world.language import FILLERS
from anonymize_faces.engines.micro_batches import MicroBatches
from anonymize_faces.trainer.data.identities import Identity
from anonymize_faces.trainer.data.long_prompts import (
    EVERY,
    STYLES,
    choosing,
    chunk_prompts,
    long_general_prompts,
    long_prompts,
)
from anonymize_faces.trainer.data.pictures import Pair, identity_pairs, spoken_pairs
from anonymize_faces.trainer.data.plain_text import PlainText
from anonymize_faces.trainer.settings import TrainingSettings
from anonymize_faces.trainer.stages.warm_start import start_of, warm_start
from anonymize_faces.trainer.start import start_vectors

Make = Callable[..., Any]
SUBJECTS = ("A photo of Zoe Quist", "A photo of a woman with long hair")


def chunks_with(clip: Any, text: str, word: str) -> tuple[int, list[int]]:
    """How many chunks the host's tokenizer makes of a text, and in which of them a word stands."""
    (token,) = [number for number, *_ in clip.tokenize(word)["l"][0][1:-1] if number != 49407]
    chunks = clip.tokenize(text)["l"]
    return len(chunks), [index for index, chunk in enumerate(chunks) if token in [entry[0] for entry in chunk]]


def test_names_stand_in_each_chunk_of_prompts_of_two_and_three(make_checkpoint: Make) -> None:
    clip = make_checkpoint().clip
    choose = choosing(torch.Generator().manual_seed(0))
    found = Counter()
    for _ in range(60):
        student, teacher = long_prompts(SUBJECTS, choose)
        assert student.replace(*SUBJECTS) == teacher
        count, places = chunks_with(clip, student, "zoe")
        found[(count, *places)] += 1
    assert all(found[kind] > 2 for kind in ((2, 0), (2, 1), (3, 0), (3, 1), (3, 2))), found


def test_a_chunk_of_style_leaves_room_for_a_prefix(make_checkpoint: Make) -> None:
    clip = make_checkpoint().clip
    choose = choosing(torch.Generator().manual_seed(0))
    for _ in range(60):
        (prompt,) = chunk_prompts(SUBJECTS[1:], choose)
        assert [entry[0] for entry in clip.tokenize(prompt)["l"][0]].index(49407) <= 77 - 1 - 10


def test_one_in_so_many_lessons_of_either_kind_is_long() -> None:
    people = [Identity(f"Name Number{number}") for number in range(20)]
    pairs = identity_pairs(people, 4, torch.Generator().manual_seed(0))
    long = [STYLES_IN.search(pair.student) is not None for pair in pairs]
    assert sum(long) == len(pairs) / EVERY and all(
        STYLES_IN.search(p.teacher) for p in pairs if p.student.count(",") > 9
    )
    general = long_general_prompts([f"thing {number}" for number in range(32)], choosing(torch.Generator()))
    assert len(general) == 32 // EVERY and sum("thing" not in prompt for prompt in general) == 2


STYLES_IN = re.compile("|".join(map(re.escape, STYLES)))


def test_what_is_said_to_the_encoder_alone_has_chunks_of_style_with_and_without_names() -> None:
    pairs = spoken_pairs([Identity("Zoe Quist", "a woman")], ["", "a red circle"], torch.Generator().manual_seed(0))
    assert [pair.student.replace("Zoe Quist", "a woman") == pair.teacher for pair in pairs] == [True] * 7
    assert [pair.names_somebody for pair in pairs] == [True] + 6 * [False]
    assert "a red circle" in [pair.student for pair in pairs]
    assert sum(STYLES_IN.search(pair.student) is not None for pair in pairs) == 5


def test_the_lessons_have_none_of_the_words_that_the_benchmark_and_the_demos_language_fill_prompts_with() -> None:
    fillers = {*FILLERS, *STYLE.strip(", ").split(", ")}
    assert not [style for style in STYLES for filler in fillers if filler in style or style in filler]


def test_the_warm_start_draws_pairs_that_it_can_compare(
    make_checkpoint: Make, make_denoiser: Make, monkeypatch: Any
) -> None:
    monkeypatch.setattr("anonymize_faces.trainer.stages.warm_start.PAIRS_OF_A_KIND", 4)
    denoiser = make_denoiser(make_checkpoint())
    encode, said = denoiser.encode, []
    denoiser.encode = lambda prompts, vectors=None, layers=None: (
        said.extend(prompts if vectors is not None else ()) or encode(prompts, vectors, layers)
    )
    long = ", ".join(STYLES)
    pairs = [Pair(f"{long}, Zoe", f"{long}, a woman", True), Pair("Zoe", "a woman", True), Pair("", "", False)]
    settings = TrainingSettings(vectors=2, text_steps=4)
    with denoiser.gradients(1):
        state = start_of(start_vectors(denoiser, settings))
        warm_start(denoiser, state, pairs, settings, MicroBatches(denoiser, 8), PlainText(denoiser))
    assert set(said) == {"Zoe", ""}
