"""Language models are asked in multiple choice and believed word for word; what they rewrite must say the same."""

from __future__ import annotations

import numpy as np
import pytest

from anonymize_faces.captions.attributes import VOCABULARY, chosen_attributes
from anonymize_faces.captions.multiple_choice import CANNOT_TELL, MultipleChoiceReader, answers_in, question
from anonymize_faces.captions.rewriting import Rewriter

ASKED = chosen_attributes("gender, hair, glasses", VOCABULARY)
PICTURE = np.zeros((8, 8, 3), np.uint8)


def test_everything_is_asked_in_one_question_with_every_answer():
    asked = question(VOCABULARY)
    assert all(word in asked for one in VOCABULARY for word in one.words)
    assert asked.count(CANNOT_TELL) == len(VOCABULARY) + 1
    assert "2. What colour is the hair? black / brown" in question(ASKED)
    assert "2. What colour is the hair? bald / white" in question(ASKED, turned=True)
    assert all(one.question for one in VOCABULARY)


@pytest.mark.parametrize(
    ("said", "understood"),
    [
        ("1. woman\n2. black\n3. none", {"gender": "woman", "hair": "black", "glasses": "none"}),
        ("1. Woman.\n\n2) BLACK\n 3: glasses ", {"gender": "woman", "hair": "black", "glasses": "glasses"}),
        ("<think>2. red</think>\n2. black", {"hair": "black"}),
        ("2. black\n2. red", {}),
        ("2. black\n2. black", {"hair": "black"}),
        ("2. black hair", {}),
        ("2. black / brown", {}),
        ("2. dark brown, I think", {}),
        ("1. cannot tell\n2. cannot tell", {}),
        ("9. black\n0. woman", {}),
        ("The woman is Marie Curie, with black hair.", {}),
        ("I can't identify people in images.", {}),
        ("", {}),
    ],
)
def test_only_an_answer_of_the_list_is_one(said, understood):
    numbers = answers_in(said, ASKED)
    assert {one.name: one.words[numbers[one.name]] for one in ASKED if one.name in numbers} == understood


def read_twice(attributes: str, first: str, second: str) -> dict[str, list[float]]:
    """What is read where a model answers this, and then that."""
    said = iter([first, second])
    reader = MultipleChoiceReader(lambda *_: next(said), chosen_attributes(attributes, VOCABULARY), "a model")
    return {name: rows[0].tolist() for name, rows in reader.read([PICTURE]).items()}


def test_an_answer_counts_where_it_is_given_both_times():
    read = read_twice("gender, hair, glasses", "1. woman\n2. black\n3. none", "1. woman\n2. brown")
    assert read == {"gender": [1, 0], "hair": [0] * 7, "glasses": [0, 0, 0]}
    assert read_twice("expression", "1. happy", "1. angry") == {"expression": [0] * 6}
    assert read_twice("expression", "1. happy", "1. happy") == {"expression": [0, 1, 0, 0, 0, 0]}


def test_neighbouring_ranges_of_years_are_one_range_and_others_are_none():
    assert read_twice("age", "1. 20 to 29", "1. 30 to 44") == {"age": [0, 0, 0.5, 0.5, 0, 0]}
    assert read_twice("age", "1. 20 to 29", "1. 45 to 59") == {"age": [0] * 6}


REWRITTEN = chosen_attributes("usual, expression, ethnicity", VOCABULARY)
CAPTION = "a woman aged 20 to 29 with long black hair, no glasses and a calm expression"


@pytest.mark.parametrize(
    "said",
    [
        CAPTION,
        "A woman, aged 20 to 29, who has long black hair, a calm expression and no glasses.",
        "She is 20 to 29 years old and has no spectacles, with long black hair and a calm expression.",
        "Without glasses, a woman aged 20 to 29 who has long black hair and a calm expression.",
        '"A lady with a calm expression and long black hair, without glasses, aged 20 to 29"',
    ],
)
def test_other_words_for_the_same_are_taken(said):
    rewritten = Rewriter(REWRITTEN, lambda request: said).rewrite(CAPTION)
    assert rewritten == said.strip('"').rstrip(".")


@pytest.mark.parametrize(
    "said",
    [
        "",
        "a woman",
        "a man aged 20 to 29 with long black hair, no glasses and a calm expression",
        "a woman aged 20 to 44 with long black hair, no glasses and a calm expression",
        "a woman aged 20 to 29 with long black hair, glasses and a calm expression",
        "a beautiful woman aged 20 to 29 with long black hair, no glasses and a calm expression",
        "Marie Curie, a woman aged 20 to 29 with long black hair, no glasses and a calm expression",
        "a woman aged 20 to 29 with long black hair, no glasses, no beard and a calm expression",
        "a woman aged 20 to 29 with short long black hair, no glasses and a calm expression",
        "an old woman aged 20 to 29 with long black hair, no glasses and a calm expression",
        "a woman aged 20 to 29 with long black hair, no glasses and a calm expression, but he is not",
        "Here is the sentence: " + CAPTION,
        CAPTION * 20,
    ],
)
def test_what_changes_a_fact_is_refused_and_the_sentence_stays(said):
    assert Rewriter(REWRITTEN, lambda request: said).rewrite(CAPTION) == CAPTION


@pytest.mark.parametrize(
    ("caption", "said"),
    [
        ("a man with glasses and no beard", "a man without a beard and glasses"),
        ("a man with glasses and no beard", "A man who has no beard, glasses"),
        ("a man with no glasses and a beard", "a man without glasses and a beard"),
        ("a man with no glasses and a beard", "a man with both no glasses and a beard"),
    ],
)
def test_what_a_negation_before_could_reach_is_refused(caption, said):
    assert Rewriter(REWRITTEN, lambda request: said).rewrite(caption) == caption


@pytest.mark.parametrize(
    ("caption", "said"),
    [
        ("a man with no glasses and a beard", "a man with a beard and no glasses"),
        ("a man with no glasses and a beard", "a man who has no glasses and wears a beard"),
        ("a man with glasses and no beard", "a man without a beard, with glasses"),
        ("a man with no glasses and no beard", "a man without glasses, without a beard"),
    ],
)
def test_what_no_negation_can_reach_is_taken(caption, said):
    assert Rewriter(REWRITTEN, lambda request: said).rewrite(caption) == said


def test_every_description_is_understood_as_it_is():
    rewriter = Rewriter(VOCABULARY, lambda request: "")
    for phrase in rewriter._grammar.phrases:
        for style in ("sentence", "short"):
            assert rewriter.facts_in(rewriter._grammar.say(phrase.facts, style)) == phrase.facts, phrase.text
