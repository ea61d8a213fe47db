"""Defines what processes that learn one prefix together owe each other.

Each process has the whole model and the same vectors. Work that can be shared is dealt out; what each makes of its
share is put together, so that all go on with the same. A process alone is a team of one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

from torch import Tensor

Item = TypeVar("Item")


class Team(Protocol):
    """The processes of a run, from one of them."""

    rank: int
    """This one's number, from 0."""
    count: int
    """How many there are."""

    def summed(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Each tensor's sum over all processes; everybody has tensors of the same shapes, and gets the same sums."""

    def agreed(self, tensor: Tensor) -> Tensor:
        """The first process's tensor; everybody has one of the same shape."""

    def wait(self) -> None:
        """Returns once everybody has called this."""


class Alone:
    """A process that has no others."""

    rank = 0
    count = 1

    def summed(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """See `Team`."""
        return list(tensors)

    def agreed(self, tensor: Tensor) -> Tensor:
        """See `Team`."""
        return tensor

    def wait(self) -> None:
        """See `Team`."""


ALONE = Alone()


def share(team: Team, items: Sequence[Item]) -> list[Item]:
    """This process's part of work that everybody knows; every item is somebody's."""
    return list(items[team.rank :: team.count])
