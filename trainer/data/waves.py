"""Deals the pictures to learn from into waves, each drawn before the first step that needs it.

So learning begins when a part of the pictures is there, and those that a run never comes to are never drawn.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..known_names import LEAST_PEOPLE, LEAST_PORTRAITS
from .pictures import Pair


def waves_of(pairs: Sequence[Pair], waves: int, portraits: int = 1) -> tuple[int, ...]:
    """The wave of each pair's picture, from 0: those of either kind by turns, so that each wave is like the whole.

    Where portraits tell whom the model knows, see `known_names`, all of a person come together, and each wave has
    enough people to tell it from: there are fewer waves of them if need be.

    Args:
        portraits: of each person, in turn.
    """
    together = portraits if portraits >= LEAST_PORTRAITS else 1
    people = sum(pair.names_somebody for pair in pairs) // together
    of_people = max(1, min(waves, people // LEAST_PEOPLE)) if together > 1 else waves
    counts = {True: 0, False: 0}
    found = []
    for pair in pairs:
        count = counts[pair.names_somebody]
        found.append(count // together % of_people if pair.names_somebody else count % waves)
        counts[pair.names_somebody] += 1
    return tuple(found)


def in_waves(order: Tensor, waves: Tensor) -> Tensor:
    """An order `[n]` of items, rearranged so that items of earlier waves come first.

    Args:
        waves: of the items in that order, `[n]`.
    """
    return order[torch.argsort(waves, stable=True)]


def come_to(pairs: Sequence[Pair], waves: Sequence[int], noisings: int, shown: int, kind: bool) -> list[int]:
    """The pictures of a kind that so many slots come to, dealt as `targets.deal` does: all of each wave begun.

    Args:
        pairs: of all pictures to learn from.
        waves: of each of them.
        noisings: slots of each picture.
        shown: slots of this kind that are asked for.
    """
    mine = [(wave, index) for index, wave in enumerate(waves) if pairs[index].names_somebody is kind]
    found: list[int] = []
    for number in range(max(waves) + 1):
        if shown <= noisings * len(found):
            break
        found += [index for wave, index in mine if wave == number]
    return sorted(found)
