"""Shares the work of a run among its processes: all compute rows, each is stored once.

All processes of a team write to one file, each its own rows, and meet now and then: from there on everybody knows what
anybody has put, and a run that is broken off loses no more than what was done since.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch

from ...prefix.errors import TrainingError
from ...runs.tensor_store import TensorStore
from .team import Team, share

Made = TypeVar("Made")

BETWEEN_MEETINGS = 64
"""Rows that each process computes between two meetings."""


def in_turn(team: Team, make: Callable[[], Made]) -> Made:
    """What `make` makes, in each process; in the first one before it is called in the others."""
    if team.rank:
        team.wait()
    made = make()
    if not team.rank:
        team.wait()
    return made


def shared(team: Team, rows: TensorStore) -> TensorStore:
    """The rows, of which everybody knows what the first process knows."""
    if team.count > 1:
        _adopt(rows, torch.nonzero(team.agreed(mask(rows))).flatten().tolist())
    return rows


def compute(
    team: Team,
    rows: TensorStore,
    indices: Sequence[int],
    work: Callable[[Sequence[int]], Any],
    met: Callable[[int], None] = lambda count: None,
) -> None:
    """Makes rows known that are not, all processes together.

    Args:
        indices: the rows that are wanted, the same in every process.
        work: puts the rows of the indices that it is given.
        met: called after each meeting with how many of the missing ones are known by then.

    Raises:
        TrainingError: the processes do not share a folder.
    """
    missing = [index for index in dict.fromkeys(indices) if index not in rows]
    if team.count == 1:
        work(missing)
        return
    size = BETWEEN_MEETINGS * team.count
    for start in range(0, len(missing), size):
        part = missing[start : start + size]
        work(share(team, part))
        rows.sync()
        team.wait()
        _adopt(rows, part)
        met(start + len(part))


def mask(rows: TensorStore) -> torch.Tensor:
    """Which rows another process would find, `[n]` uint8."""
    found = torch.zeros(rows.count, dtype=torch.uint8)
    found[rows.on_disk()] = 1
    return found


def _adopt(rows: TensorStore, indices: Sequence[int]) -> None:
    try:
        rows.adopt(indices)
    except OSError as error:
        raise TrainingError(
            f"The processes of a run share its folder, and this one cannot use it ({error}): name one with --runs that"
            " all machines see and can write to, with room for all pictures and targets."
        ) from error
