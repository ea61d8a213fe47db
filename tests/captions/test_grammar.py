"""Every sentence reads back as the facts that made it, and nothing else is read."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anonymize_faces.captions.attributes import VOCABULARY, Answer, Attribute, chosen_attributes
from anonymize_faces.captions.grammar import STYLES, Grammar
from anonymize_faces.demo.measuring.looks_reader import demo_attributes
from anonymize_faces.prefix.errors import DescriptionError

EVERYTHING = Grammar(VOCABULARY)
OF_THE_DEMO = Grammar(demo_attributes())


def facts(grammar: Grammar, attributes: tuple[Attribute, ...]) -> st.SearchStrategy[dict[str, tuple[str, ...]]]:
    """Any facts that there are words for and that can be true of one person."""

    def of(attribute: Attribute) -> st.SearchStrategy[tuple[str, ...] | None]:
        spans = [tuple(attribute.words[n] for n in span) for span in attribute.spans()]
        return st.sampled_from([None, *(span for span in spans if grammar.has_words(attribute.name, span))])

    def possible(chosen: dict[str, tuple[str, ...] | None]) -> dict[str, tuple[str, ...]]:
        told = {name: answers for name, answers in chosen.items() if answers}
        silent = {a.name for a in attributes if any(word in told.get(n, ()) for n, word in a.silent_with)}
        return {name: answers for name, answers in told.items() if name not in silent}

    return st.fixed_dictionaries({one.name: of(one) for one in attributes}).map(possible)


@settings(max_examples=1500)
@given(facts(EVERYTHING, VOCABULARY), st.sampled_from(STYLES), st.none() | st.integers(0, 2**32))
def test_every_sentence_parses_back(told, style, seed):
    said = EVERYTHING.say(told, style, None if seed is None else np.random.default_rng(seed))
    assert EVERYTHING.parse(said) == told


@settings(max_examples=300)
@given(facts(OF_THE_DEMO, demo_attributes()), st.sampled_from(STYLES), st.none() | st.integers(0, 2**32))
def test_every_sentence_of_the_demo_parses_back(told, style, seed):
    said = OF_THE_DEMO.say(told, style, None if seed is None else np.random.default_rng(seed))
    assert OF_THE_DEMO.parse(said) == told


def test_every_phrase_alone_parses_back():
    for style in STYLES:
        assert [p.text for p in EVERYTHING.phrases if EVERYTHING.parse(EVERYTHING.say(p.facts, style)) != p.facts] == []


@settings(max_examples=300)
@given(facts(EVERYTHING, VOCABULARY), st.data())
def test_a_sentence_with_a_word_more_or_less_is_none_or_another(told, data):
    words = EVERYTHING.say(told).split(" ")
    place = data.draw(st.integers(0, len(words) - 1))
    for changed in (words[:place] + words[place + 1 :], [*words[:place], "famous", *words[place:]]):
        meant = meaning(" ".join(changed))
        assert meant != told or changed == EVERYTHING.say(told, "short").split(" ")
        assert meant is None or "famous" not in changed


def meaning(text: str) -> dict[str, tuple[str, ...]] | None:
    try:
        return EVERYTHING.parse(text)
    except DescriptionError:
        return None


def test_it_says_what_an_artist_would():
    told = {"gender": ("woman",), "age": ("20 to 29", "30 to 44"), "hair": ("blond",), "hair length": ("long",)}
    more = {**told, "glasses": ("glasses",), "expression": ("calm", "happy")}
    assert EVERYTHING.say(told) == "a woman aged 20 to 44 with long blond hair"
    assert EVERYTHING.say(more, "short") == "woman, aged 20 to 44, long blond hair, glasses, calm and happy expression"
    assert EVERYTHING.say({"age": ("60 or more",), "hair": ("bald",), "ethnicity": ("East Asian",)}) == (
        "a person aged 60 or more with a bald head and East Asian features"
    )
    assert EVERYTHING.say({}) == "a person"


@pytest.mark.parametrize(
    "text", ["", "a", "a person with", "a woman with glasses and", "a person  with glasses", "a person with glasses,"]
)
def test_what_is_no_sentence_is_refused(text):
    with pytest.raises(DescriptionError, match="no description of ours"):
        EVERYTHING.parse(text)


def test_phrases_that_mean_two_things_are_refused():
    one, other = (Attribute(name, (Answer("yes", "glasses"),)) for name in ("glasses", "spectacles"))
    with pytest.raises(ValueError, match="two things"):
        Grammar([one, other])


def test_usual_attributes_leave_out_what_singles_out_a_person_or_is_guessed():
    usual = {one.name for one in chosen_attributes("", VOCABULARY)}
    assert usual.isdisjoint({"moles", "scars", "ethnicity", "expression", "freckles", "face"})
    assert {"hair", "skin", "glasses", "beard", "age"} <= usual
    asked = [one.name for one in chosen_attributes("Ethnicity,\n glasses ; hair", VOCABULARY)]
    assert asked == ["hair", "glasses", "ethnicity"]
    assert {one.name for one in chosen_attributes("usual, moles", VOCABULARY)} == usual | {"moles"}
    with pytest.raises(DescriptionError, match=r"no attribute 'nose'.*glasses"):
        chosen_attributes("hair, nose", VOCABULARY)
