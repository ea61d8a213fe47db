"""Prompts that name people, their neutral twins, and the others."""

from __future__ import annotations

import re

import pytest

from anonymize_faces.demo.main_job import WORKFLOW
from anonymize_faces.demo.world.people import THING_PROMPTS
from anonymize_faces.evaluation.settings import CAPTIONS
from anonymize_faces.prefix import ListError
from anonymize_faces.tools.workflow import load_workflow
from anonymize_faces.trainer.data.identities import Identity
from anonymize_faces.trainer.data.pairs import training_pairs
from anonymize_faces.trainer.data.prompts import (
    CONTEXTS,
    GENERAL_PROMPTS,
    OPENINGS,
    general_prompts,
    lines_of,
    name_prompt,
    neutral_prompt,
)
from anonymize_faces.trainer.settings import TrainingSettings
from anonymize_faces.trainer.validation import hold_out

ADA = Identity("Ada Lovelace", "a woman with dark hair")


@pytest.mark.parametrize("opening", OPENINGS)
@pytest.mark.parametrize("context", CONTEXTS)
def test_the_neutral_twin_differs_in_the_name_alone(opening: str, context: str) -> None:
    named = name_prompt(ADA, opening, context)
    assert neutral_prompt(ADA, opening, context) == named.replace(ADA.name, ADA.description)
    assert named == named.strip()


def test_the_built_in_prompts_hold_the_empty_one_and_no_doubles() -> None:
    assert "" in GENERAL_PROMPTS
    assert len(set(GENERAL_PROMPTS)) == len(GENERAL_PROMPTS)


def test_the_built_in_prompts_always_stay_and_take_turns_with_ones_own_and_with_looks() -> None:
    text = "a red circle\r\n# a note\n\na dog\na red circle\na tree"
    found = general_prompts(text, [ADA, ADA])
    assert [found.index(prompt) for prompt in ("", "a red circle", "a dog", "a tree")] == [0, 1, 2, 4]
    assert found[3] == "A portrait of a woman with dark hair" and found[5] in GENERAL_PROMPTS
    assert set(found) == {*GENERAL_PROMPTS, "a red circle", "a dog", "A portrait of a woman with dark hair"}
    assert len(set(found)) == len(found)
    assert set(general_prompts("  \n", [ADA])) == set(found) - {"a red circle", "a dog"}


@pytest.mark.parametrize(
    "words",
    ["Eiffel", "Coca-Cola", "Monet", "Mickey", "1girl, solo", "worst quality", "an old man", "a cat", "oil painting"],
)
def test_a_few_from_the_front_are_of_all_kinds_and_the_list_has_them_all(words: str) -> None:
    assert any(words in prompt for prompt in GENERAL_PROMPTS)
    front = general_prompts("", [])[:40]
    places, kinds = [GENERAL_PROMPTS.index(prompt) for prompt in front], len(GENERAL_PROMPTS) // 10
    assert {place // kinds for place in places} == set(range(len(GENERAL_PROMPTS) // kinds + 1))


def test_however_many_prompts_an_artist_has_built_in_ones_are_drawn_too() -> None:
    own = [f"my own prompt {number}" for number in range(400)]
    settings = TrainingSettings(general_drawn=64)
    held_out = hold_out([ADA], general_prompts("\n".join(own), [ADA]), settings.held_out, settings.seed)
    drawn = {pair.student for pair in training_pairs(held_out, settings).learned}
    mine, built_in = drawn & set(own), drawn & set(GENERAL_PROMPTS)
    assert "" in built_in and 20 < len(built_in) <= len(mine) + 1 <= settings.general_drawn / 2
    # Few of them all are.
    held_out = hold_out([ADA], general_prompts("\n".join(own[:12]), [ADA]), 0.0, settings.seed)
    assert {*own[:12]} < {pair.student for pair in training_pairs(held_out, settings).learned}


def test_there_are_long_ones_and_ones_of_few_words() -> None:
    lengths = [len(prompt.split()) for prompt in GENERAL_PROMPTS if prompt]
    assert sum(length > 25 for length in lengths) >= 4 and sum(length <= 3 for length in lengths) >= 8


def asked() -> list[str]:
    """Prompts that name nobody and that a prefix is measured by, wherever it is."""
    evaluated = [*THING_PROMPTS, *CAPTIONS]
    return [" ".join(re.findall(r"\w+", prompt.casefold())) for prompt in evaluated]


def test_no_prompt_is_one_that_a_prefix_is_measured_by_nor_holds_one() -> None:
    built_in = [" ".join(re.findall(r"\w+", prompt.casefold())) for prompt in GENERAL_PROMPTS]
    shared = [(ours, theirs) for ours in built_in for theirs in asked() if f" {theirs} " in f" {ours} "]
    assert shared == []
    shipped = load_workflow(WORKFLOW)
    texts = [str(value) for node in shipped["nodes"] for value in node.get("widgets_values") or ()]
    lines = {" ".join(re.findall(r"\w+", line.casefold())) for text in texts for line in text.splitlines()}
    assert lines & set(asked()) == set()


def test_a_list_of_prompts_is_normalized_and_may_hold_what_prompts_hold() -> None:
    text = (
        "\ufeffa cafe\u0301\n\uff03 note\na\u200b caf\u00e9\na\u00a0dog\n"
        "{a|b} cat\n[cat:dog:0.5]\ntext, watermark\n(sign: 1.2)\n\x1a"
    )
    assert lines_of(text) == ("a café", "a dog", "{a|b} cat", "[cat:dog:0.5]", "text, watermark", "(sign: 1.2)")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('["a cat", "a dog"]', "JSON"),
        ('{"prompt":\n"a cat"}', "JSON"),
        ('{"prompt": "a cat"}\n{"prompt": "a dog"}', "JSON"),
        ("prompt\na cat", "^Line 1 is a heading"),
        ("prompt,negative\na cat,blurry", "^Line 1 is a heading"),
        ("a cat\na dog\t1", "^Line 2 has columns"),
        ('a dog\n"a cat"', "^Line 2 is in quotation marks"),
        ("a dog\u2028a cat", "^Line 1 "),
        ("a" * 5001, "^Line 1 has 5001"),
    ],
)
def test_another_kind_of_file_is_no_list_of_prompts(text: str, words: str) -> None:
    with pytest.raises(ListError, match=words):
        lines_of(text)
