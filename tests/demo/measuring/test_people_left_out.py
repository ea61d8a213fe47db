"""Shows that recipes are chosen by people whom neither learning nor the evaluation of the demo knows as unseen."""

from __future__ import annotations

import pytest

from anonymize_faces.demo.measuring.people_left_out import WAYS, left_out
from anonymize_faces.demo.world.people import cast


@pytest.mark.parametrize("seed", [101, 102])
def test_those_left_out_are_of_those_given_and_no_two_look_alike(seed: int) -> None:
    out = left_out(8, seed)
    assert len(out) == 8 and not any(cast()[index].unseen for index in out)
    assert len({cast()[index].looks for index in out}) == 8
    assert left_out(8, seed) == out != left_out(8, seed + 1)
    assert set(left_out(3, seed)) < set(out)


def test_they_are_named_once_and_three_times() -> None:
    assert [words.count("{0}") for words in WAYS.values()] == [1, 3]
