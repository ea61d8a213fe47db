"""The cast: what makes the demo's ruler fair."""

from __future__ import annotations

from collections import Counter

import numpy as np

from anonymize_faces.demo.world.people import GEOMETRY, STRANGERS_PER_PERSON, cast, cast_looks, strangers


def test_sixty_four_people_have_sixty_four_names_made_of_names_that_recur() -> None:
    names = [person.name.split() for person in cast()]
    assert len({tuple(name) for name in names}) == 64
    for position in (0, 1):
        assert set(Counter(name[position] for name in names).values()) == {4}


def test_four_people_share_each_combination_of_looks_and_one_of_them_is_unseen() -> None:
    groups = Counter(person.looks for person in cast())
    assert set(groups.values()) == {4} and set(groups) == set(cast_looks())
    assert Counter(person.looks for person in cast() if person.unseen) == dict.fromkeys(cast_looks(), 1)


def test_people_with_one_first_name_differ_in_their_looks() -> None:
    by_first = {}
    for person in cast():
        by_first.setdefault(person.name.split()[0], []).append(person.looks)
    assert all(len(set(looks)) == 4 for looks in by_first.values())


def test_each_person_has_a_hundred_strangers_of_the_same_looks_and_another_face() -> None:
    looks, geometry = strangers()
    assert STRANGERS_PER_PERSON == 100
    assert looks == [person.looks for person in cast() for _ in range(100)]
    assert geometry.shape == (6400, len(GEOMETRY))
    people = np.array([person.geometry for person in cast()])
    nearest = np.linalg.norm(geometry[:, None] - people[None], axis=-1).min()
    assert nearest > 0.5
