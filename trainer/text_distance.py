"""Measures how far two prompts are apart in the space of CLIP's states."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ..engines.denoiser import Conditioning, Denoiser, TextStates

SHARED_WEIGHT = 0.5
"""Of words that a name prompt and its neutral twin both end in, against the padding after them."""

HELD_WEIGHT = 2.0
"""Of the words of a prompt that is to stay as it is: they tell the denoiser more of it than the padding does."""


def comparable_states(
    denoiser: Denoiser, prompts: Sequence[str], conditioning: Conditioning, prefix: int = 0
) -> Sequence[TextStates | None]:
    """See `Denoiser.text_states`, of encoders that can be compared."""
    states = denoiser.text_states(prompts, conditioning, prefix)
    assert states is not None
    return states


def text_distance(
    student: TextStates, goal: Tensor, teacher: TextStates, shared_weight: float = SHARED_WEIGHT
) -> Tensor:
    """How far what a student's prompt says is from the goal, for the padding and for words that both prompts end in.

    Args:
        student: the prompt's states with the prefix, `[length, d]`.
        goal: what the states after the end of both prompts are to be, `[length, d]`; rows before that are not read.
        teacher: the states of the teacher's prompt.
        shared_weight: of the words that both end in, against the padding.
    """
    stop = max(student.stop, teacher.stop)
    distance = (student.states[stop:].float() - goal[stop:].float()).square().mean()
    shared = _shared_words(student.words, teacher.words)
    if shared:
        ours, theirs = (side.states[side.stop - shared : side.stop].float() for side in (student, teacher))
        distance = distance + shared_weight * (ours - theirs).square().mean()
    return distance


def _shared_words(one: Sequence[int], other: Sequence[int]) -> int:
    """How many words both end in."""
    count = 0
    for ours, theirs in zip(reversed(one), reversed(other), strict=False):
        if ours != theirs:
            break
        count += 1
    return count
