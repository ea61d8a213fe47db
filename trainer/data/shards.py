"""Deals the pictures to learn from into shards, each drawn before the first step that needs it.

So learning begins when a part of the pictures is there, and those that a run never comes to are never drawn.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..stages.known_names import LEAST_PEOPLE, LEAST_PORTRAITS
from .pictures import Pair


def shards_of(pairs: Sequence[Pair], shards: int, portraits: int = 1) -> tuple[int, ...]:
    """The shard of each pair's picture, from 0: those of either kind by turns, so that each shard is like the whole.

    Where portraits tell whom the model knows, see `known_names`, all of a person come together, and each shard has
    enough people to tell it from: there are fewer shards of them if need be.

    Args:
        portraits: of each person, in turn.
    """
    together = portraits if portraits >= LEAST_PORTRAITS else 1
    people = sum(pair.names_somebody for pair in pairs) // together
    of_people = max(1, min(shards, people // LEAST_PEOPLE)) if together > 1 else shards
    counts = {True: 0, False: 0}
    found = []
    for pair in pairs:
        count = counts[pair.names_somebody]
        found.append(count // together % of_people if pair.names_somebody else count % shards)
        counts[pair.names_somebody] += 1
    return tuple(found)


def by_shard(order: Tensor, shards: Tensor) -> Tensor:
    """An order `[n]` of items, rearranged so that items of earlier shards come first.

    Args:
        shards: of the items in that order, `[n]`.
    """
    return order[torch.argsort(shards, stable=True)]


def come_to(pairs: Sequence[Pair], shards: Sequence[int], noisings: int, shown: int, kind: bool) -> list[int]:
    """The pictures of a kind that so many slots come to, dealt as `targets.deal` does: all of each shard begun.

    Args:
        pairs: of all pictures to learn from.
        shards: of each of them.
        noisings: slots of each picture.
        shown: slots of this kind that are asked for.
    """
    mine = [(shard, index) for index, shard in enumerate(shards) if pairs[index].names_somebody is kind]
    found: list[int] = []
    for number in range(max(shards) + 1):
        if shown <= noisings * len(found):
            break
        found += [index for shard, index in mine if shard == number]
    return sorted(found)
