"""Leaves out a part of the people in turn, to ask what is so of people whom nothing was fitted to."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

PARTS = 4
"""Parts of the people, each of which is left out once."""

LEAST_PEOPLE = 8
"""Fewer are too few to leave some out."""


def left_out_in_turn(people: Tensor) -> Iterator[Tensor]:
    """Which of some things are of people left out, `[n]`, once for each part; nothing with too few people.

    Args:
        people: whose each is, `[n]`.
    """
    each, place = torch.unique(people, return_inverse=True)
    if len(each) < LEAST_PEOPLE:
        return
    dealt = torch.randperm(len(each), generator=torch.Generator().manual_seed(0))  # Lists are in some order of looks.
    place = dealt[place]
    for part in range(PARTS):
        yield place % PARTS == part
