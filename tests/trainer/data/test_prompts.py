"""Prompts that name people, their neutral twins, and the others."""

from __future__ import annotations

import pytest

from anonymize_faces.prefix import ListError
from anonymize_faces.trainer.data.identities import Identity
from anonymize_faces.trainer.data.prompts import (
    CONTEXTS,
    GENERAL_PROMPTS,
    OPENINGS,
    general_prompts,
    lines_of,
    name_prompt,
    neutral_prompt,
)

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


def test_without_own_prompts_the_built_in_ones_are_used_with_the_described_looks() -> None:
    assert general_prompts("  \n", [ADA]) == (*GENERAL_PROMPTS, "A portrait of a woman with dark hair")


def test_own_prompts_replace_the_built_in_ones_but_not_the_empty_one_and_the_looks() -> None:
    text = "a red circle\r\n# a note\n\na dog\na red circle"
    assert general_prompts(text, [ADA, ADA]) == ("", "a red circle", "a dog", "A portrait of a woman with dark hair")


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
