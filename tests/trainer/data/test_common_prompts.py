"""Prompts of common words: as many as are wanted, of many kinds, none of those that prefixes are measured by."""

from __future__ import annotations

import re

import pytest
import torch

from anonymize_faces.demo.measuring.prompts import described, named_things
from anonymize_faces.demo.world.people import THING_PROMPTS, cast
from anonymize_faces.evaluation.settings import CAPTIONS
from anonymize_faces.trainer.data import pairs
from anonymize_faces.trainer.data.common_prompts import prompts_of_people, prompts_of_things
from anonymize_faces.trainer.data.identities import ANYBODY, Identity
from anonymize_faces.trainer.data.long_prompts import choosing
from anonymize_faces.trainer.data.prompts import GENERAL_PROMPTS
from anonymize_faces.trainer.validation import Subjects


def made(count: int, seed: int = 0) -> tuple[str, ...]:
    choose = choosing(torch.Generator().manual_seed(seed))
    return (*prompts_of_things(count, choose), *prompts_of_people(count, choose))


def test_they_follow_from_the_seed_and_are_of_many_things() -> None:
    assert made(150) == made(150) != made(150, seed=1)
    things = made(150)[:150]
    assert len(set(things)) > 145
    assert len({re.sub(r"^.*\ban? ", "", prompt).split(" on ")[0] for prompt in things}) > 120


def test_they_are_sentences() -> None:
    for prompt in made(400):
        assert prompt == prompt.strip() and "  " not in prompt
        assert not re.search(r"\ba [aeiou]|\ban [^aeiou]| and$|with$", prompt), prompt


def test_none_of_them_is_asked_about_where_a_prefix_is_measured() -> None:
    asked = {*THING_PROMPTS, *CAPTIONS, *(request.prompt for request in (*named_things().values(), *described()))}
    drawn = {prompt for seed in range(20) for prompt in made(600, seed)}
    assert not drawn & asked
    words = {word for prompt in drawn for word in prompt.split()}
    assert not words & {word for person in cast() for word in person.name.split()}


def test_each_prompt_has_the_description_of_whom_it_names_unless_that_is_unclear(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    people = [Identity(f"Ada{number} Smith", f"a woman of {number} years") for number in range(20, 60)]
    people += [Identity("Cy Young"), Identity("Dee Nobody", " ")]
    monkeypatch.setattr(pairs, "MOST_NAMED", 576)
    first = pairs.first_prompts(Subjects(tuple(people), GENERAL_PROMPTS), 3)
    assert len(first.described) == len(first.whom) == len(first.named)
    for prompt, words, one in zip(first.named, first.described, first.whom, strict=True):
        named = [person for person in people if person.name in prompt]
        if named:
            assert people[one] is named[0]
            assert words == (named[0].description.strip() or ANYBODY), prompt
        elif not words:
            assert "smith" in prompt.lower() and "ada" not in prompt.lower(), prompt
    assert "" in first.described and ANYBODY in first.described


@pytest.mark.parametrize("count", [5, 20, 48, 600])
def test_long_prompts_have_their_share_of_those_whose_twins_are_read(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    people = tuple(Identity(f"Ada Nobody{number}", "a woman with dark hair") for number in range(count))
    monkeypatch.setattr(pairs, "MOST_NAMED", 576)
    first = pairs.first_prompts(Subjects(people, GENERAL_PROMPTS), 3)
    for long in (True, False):
        twins = [
            twin for prompt, twin in zip(first.named, first.twins, strict=True) if (len(prompt.split()) >= 40) is long
        ]
        assert 0.35 < sum(map(bool, twins)) / len(twins) < 0.65


def test_a_gate_is_fitted_to_about_as_many_of_either_kind_each_once() -> None:
    people = tuple(Identity(f"Ada Nobody{number}", "a woman with dark hair") for number in range(20))
    first = pairs.first_prompts(Subjects(people, GENERAL_PROMPTS), 3)
    named, others = first.named, first.others
    for prompts in (named, others):
        assert len(set(prompts)) == len(prompts) and pairs.MOST_NAMED / 2 < len(prompts) <= 1.2 * pairs.MOST_NAMED
    assert all("Nobody" in prompt or "nobody" in prompt.lower() for prompt in named[:5]) and "" in others
