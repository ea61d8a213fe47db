"""Computes the loss, and the goal past the teacher that it aims at.

It stands alone because steps, targets, validation and the warm start must all mean the same by it.
"""

from __future__ import annotations

from torch import Tensor


def distances(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared distance of each student prediction from its teacher's, `[B]`.

    Its mean has the gradient direction of the reference objective: there the target is
    `ε_n − η (sg ε_p − ε_n)`, so that `ε_p − target = (1 + η)(ε_p − ε_n)`, a constant factor that Adam divides out
    (docs/METHODS.md 1.4).

    Args:
        student: predictions for the name prompts with the prefix, `[B, ...]`.
        teacher: predictions for the neutral prompts without it, `[B, ...]`, without gradient.
    """
    return (student.float() - teacher.float()).square().flatten(1).mean(1)


def beyond(neutral: Tensor, named: Tensor, overshoot: float) -> Tensor:
    """The goal for a name prompt: past the neutral side, on the line that leads there from the named one.

        goal = neutral + overshoot · (neutral − named)

    A prefix takes less of the identity of people whom it never met than of those it learned on; aiming a little past
    the goal for these brings it to the goal for those. The direction is that of negative guidance, with which ESD
    (Gandikota et al., arXiv 2303.07345, 3) trains erasure.

    Args:
        neutral: what the model makes of the description, without prefix.
        named: what it makes of the name, without prefix; of the same shape.
        overshoot: 0 is the goal of docs/METHODS.md 1.3.
    """
    return neutral + overshoot * (neutral - named) if overshoot else neutral
