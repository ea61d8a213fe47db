"""Pairing, grouping, identifying: figures that can be reckoned by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anonymize_faces.faces.scoring import Identification, by_person, group, identify, pair_by_place, ranks_first, spread


def boxes(*centres: tuple[float, float]) -> np.ndarray:
    return np.array([[x - 0.05, y - 0.05, x + 0.05, y + 0.05] for x, y in centres]).reshape(-1, 4)


def test_faces_are_paired_with_the_nearest_whatever_their_order():
    assert pair_by_place(boxes((0.2, 0.5), (0.8, 0.5)), boxes((0.75, 0.5), (0.25, 0.5))) == [(0, 1), (1, 0)]


def test_the_pairing_is_best_over_all_and_not_first_come_first_served():
    # The first is nearest to 0.4, but then the second would have to go all the way to 0.0.
    assert pair_by_place(boxes((0.3, 0.5), (0.5, 0.5)), boxes((0.4, 0.5), (0.0, 0.5))) == [(0, 1), (1, 0)]


@pytest.mark.parametrize(("some", "others", "pairs"), [(0, 2, 0), (2, 0, 0), (3, 1, 1), (1, 3, 1)])
def test_as_many_are_paired_as_there_can_be(some, others, pairs):
    some, others = (boxes(*[(n / 5, 0.5) for n in range(count)]) for count in (some, others))
    assert len(pair_by_place(some, others)) == pairs


def test_a_face_left_alone_is_paired_with_the_one_in_its_place():
    assert pair_by_place(boxes((0.2, 0.5), (0.8, 0.5)), boxes((0.78, 0.5))) == [(1, 0)]


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), max_size=6), st.permutations(range(6)))
def test_faces_that_stay_where_they_are_find_themselves(centres, order):
    some = boxes(*centres)
    order = [index for index in order if index < len(centres)]
    pairs = pair_by_place(some, some[order])
    assert all(np.allclose(some[i], some[order][j], atol=1e-6) for i, j in pairs) and len(pairs) == len(centres)


def test_photos_of_one_person_become_one_person():
    likeness = np.eye(5)
    for i, j in ((0, 2), (2, 4), (1, 3)):
        likeness[i, j] = likeness[j, i] = 0.8
    assert group(likeness, 0.5).tolist() == [0, 1, 0, 1, 0]
    assert group(likeness, 0.9).tolist() == [0, 1, 2, 3, 4]
    assert group(np.empty((0, 0)), 0.5).tolist() == []


def test_likeness_to_a_person_is_that_of_the_photo_most_alike():
    assert by_person(np.array([[0.1, 0.9, 0.3]]), np.array([0, 1, 0])).tolist() == [[0.3, 0.9]]


def test_identification_counts_who_is_known_who_is_found_and_who_is_recognized():
    plain = np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.1], [0.3, 0.2]])
    anonymized = np.array([[0.6, 0.1], [0.4, 0.2], [0.3, 0.2], [0.9, 0.9]])
    # The last is nobody's before; the first stays recognized, the third is nearest still, the second is not.
    assert identify(plain, anonymized, 0.5) == Identification(people=2, known=3, found=2, recognized=1)


def test_a_spread_of_nothing_is_no_number():
    assert spread([0.5, 0.1]).mean == pytest.approx(0.3) and spread([0.5, 0.1]).max == 0.5
    nothing = spread([])
    assert np.isnan(nothing.mean) and np.isnan(nothing.max) and nothing.count == 0


def test_a_face_ranks_first_if_the_nearest_of_all_known_faces_is_the_persons_own():
    similarities = np.array([[0.9, 0.2, 0.1], [0.4, 0.5, 0.6], [0.1, 0.8, 0.3]])
    whose = np.array([0, 1, -1])
    assert ranks_first(similarities, whose, np.array([0, 1, 1])).tolist() == [True, False, True]
