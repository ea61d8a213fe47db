"""Measures how far two prompts are apart in the space of text encoders' states."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...engines.denoiser import TextStates
from ..objective import beyond

SHARED_WEIGHT = 0.5
"""Of words that a name prompt and its neutral twin both have, against what follows them."""

HELD_WEIGHT = 2.0
"""Of the words of a prompt that is to stay as it is: they tell the denoiser more of it than what follows does."""

LEAST_SCALE = 0.01
"""Of the mean square of all of a stream's numbers, what each is taken for at least where it is the unit."""

Said = Sequence[TextStates]
"""What each text encoder says of a prompt, see `Denoiser.text_states`."""


def text_distance(
    student: Said, teacher: Said, name: Said | None = None, overshoot: float = 0.0, shared_weight: float = SHARED_WEIGHT
) -> Tensor:
    """How far what a student's prompt says is from what the teacher's does, or from what lies past it.

    Args:
        student: the prompt's states with the prefix.
        teacher: the states of the teacher's prompt without.
        name: the student's prompt's without, if the goal lies past the teacher: see `objective.beyond`.
        overshoot: how far.
        shared_weight: of the words that both prompts have, against what follows them.
    """
    parts = zip(student, teacher, name or teacher, strict=True)
    distances = [
        (_of_stream if theirs.is_stream else _of_clip)(ours, theirs, named, overshoot, shared_weight)
        for ours, theirs, named in parts
    ]
    return distances[0] if len(distances) == 1 else torch.stack(distances).sum()


def _of_clip(student: TextStates, teacher: TextStates, name: TextStates, overshoot: float, weight: float) -> Tensor:
    """For the padding, at the same positions of both, and for words that both prompts end in."""
    stop = max(student.stop, teacher.stop)
    goal = beyond(teacher.states, name.states, overshoot)
    distance = (student.states[stop:].float() - goal[stop:].float()).square().mean()
    shared = shared_end(student.words, teacher.words)
    if shared:
        ours, theirs = (side.states[side.stop - shared : side.stop].float() for side in (student, teacher))
        distance = distance + weight * (ours - theirs).square().mean()
    return distance


def _of_stream(student: TextStates, teacher: TextStates, name: TextStates, overshoot: float, weight: float) -> Tensor:
    """For what follows the words, for what the words say in which the prompts differ, and for those that both have.

    A name and a description differ in length: of either the mean is compared. What follows (the end of a template,
    padding) has read all of it, as has the shared end in encoders that read forwards alone. The unit is the size of
    each number in the teacher's states: in language models some are a thousand times as large as others.
    """
    sides = (student, teacher, name)
    unit = teacher.states[teacher.start :].float().square().mean(0)
    unit = unit.clamp(min=LEAST_SCALE * float(unit.mean()) or 1.0)

    def apart(ours: Tensor, theirs: Tensor) -> Tensor:
        return ((ours.float() - theirs.float()).square() / unit).mean()

    ending = shared_end(student.words, teacher.words)
    mine, its = (side.words[: len(side.words) - ending] for side in (student, teacher))
    opening = shared_end(mine[::-1], its[::-1])
    distances = []
    follow = min(len(side.states) - side.stop for side in sides)
    if follow:
        ours, theirs, named = (side.states[side.stop : side.stop + follow] for side in sides)
        distances.append(apart(ours, beyond(theirs, named, overshoot)))
    differing = [side.states[side.start + opening : side.stop - ending] for side in sides]
    if all(map(len, differing)):
        ours, theirs, named = (states.float().mean(0) for states in differing)
        distances.append(apart(ours, beyond(theirs, named, overshoot)))
    if ending or opening:
        ours, theirs = (
            torch.cat([side.states[side.start : side.start + opening], side.states[side.stop - ending : side.stop]])
            for side in (student, teacher)
        )
        distances.append(weight * apart(ours, theirs))
    return torch.stack(distances).sum() if distances else student.states.float().sum() * 0.0


def shared_end(one: Sequence[int], other: Sequence[int]) -> int:
    """How many words both end in."""
    count = 0
    for ours, theirs in zip(reversed(one), reversed(other), strict=False):
        if ours != theirs:
            break
        count += 1
    return count
