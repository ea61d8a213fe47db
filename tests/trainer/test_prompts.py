"""Prompts that name people, their neutral twins, and the others."""

from __future__ import annotations

import pytest

from anonymize_faces.trainer.identities import Identity
from anonymize_faces.trainer.prompts import (
    CONTEXTS,
    GENERAL_PROMPTS,
    OPENINGS,
    general_prompts,
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
