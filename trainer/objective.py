"""Without this module the trainer would strive for nothing: the loss of METHODS.md 1.3, less what 1.4 drops."""

from __future__ import annotations

from torch import Tensor


def distances(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared distance of each student prediction from its teacher's, `[B]`.

    Its mean has the gradient direction of the reference objective: there the target is
    `ε_n − η (sg ε_p − ε_n)`, so that `ε_p − target = (1 + η)(ε_p − ε_n)`, a constant factor that Adam divides out
    (METHODS.md 1.4).

    Args:
        student: predictions for the name prompts with the prefix, `[B, ...]`.
        teacher: predictions for the neutral prompts without it, `[B, ...]`, without gradient.
    """
    return (student.float() - teacher.float()).square().flatten(1).mean(1)
