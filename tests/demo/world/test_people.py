"""The cast: what makes the demo's ruler fair."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np

from anonymize_faces.demo.world.language import cast_names, vocabulary
from anonymize_faces.demo.world.names import STRANGER_FIRST, STRANGER_LAST, stranger_name
from anonymize_faces.demo.world.people import GEOMETRY, STRANGERS_PER_PERSON, cast, cast_looks, strangers
from anonymize_faces.demo.world.renderer import LANDMARKS, MASCOTS
from anonymize_faces.tools.layout import ROOT
from anonymize_faces.tools.workflow import load_workflow


def words_of(name: str) -> list[str]:
    return name.casefold().split()


def test_no_word_of_a_name_is_anybody_elses_or_anything_elses() -> None:
    people = [word for person in cast() for word in words_of(person.name)]
    assert len({person.name for person in cast()}) == 64 and len(people) == len(set(people)) == 128
    other = {word for name in (*STRANGER_FIRST, *STRANGER_LAST, *LANDMARKS, *MASCOTS) for word in words_of(name)}
    rest = {word for phrase in vocabulary() if phrase not in cast_names() for word in words_of(phrase)}
    assert other.isdisjoint(people) and rest.isdisjoint(people)


def test_names_that_are_made_up_are_nobodys() -> None:
    rng = np.random.default_rng(0)
    people = {word for person in cast() for word in words_of(person.name)}
    names = [stranger_name(rng) for _ in range(5000)]
    assert people.isdisjoint(word for name in names for word in words_of(name))
    assert len(set(names)) > 2500 and {len(name.split()) for name in names} == {1, 2}


def test_there_are_named_things_that_are_nobody() -> None:
    assert len(LANDMARKS) >= 12 and len(MASCOTS) >= 8


def test_four_people_share_each_combination_of_looks_and_one_of_them_is_unseen() -> None:
    groups = Counter(person.looks for person in cast())
    assert set(groups.values()) == {4} and set(groups) == set(cast_looks())
    assert Counter(person.looks for person in cast() if person.unseen) == dict.fromkeys(cast_looks(), 1)


def test_each_person_has_a_hundred_strangers_of_the_same_looks_and_another_face() -> None:
    looks, geometry = strangers()
    assert STRANGERS_PER_PERSON == 100
    assert looks == [person.looks for person in cast() for _ in range(100)]
    assert geometry.shape == (6400, len(GEOMETRY))
    people = np.array([person.geometry for person in cast()])
    nearest = np.linalg.norm(geometry[:, None] - people[None], axis=-1).min()
    assert nearest > 0.5


def test_the_examples_on_the_demo_model_name_people_of_the_cast() -> None:
    named = {person.name for person in cast()}
    told = set()
    for path in (ROOT / "example_workflows").glob("*.json"):
        nodes = load_workflow(path)["nodes"]
        if any(node["type"] == "LoadDemoModel" for node in nodes):
            values = [str(value) for node in nodes for value in node.get("widgets_values") or ()]
            told |= set(re.findall(r"portrait of ([A-Z]\w+ [A-Z]\w+)|^([A-Z]\w+ [A-Z]\w+):", "\n".join(values), re.M))
    found = {name for pair in told for name in pair if name}
    assert len(found) == 64 and found == named
