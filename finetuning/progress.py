"""Says how far fine-tuning is, and what it asks on the way."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..runs.amounts import duration, gigabytes


@dataclass(frozen=True)
class FinetuningPlan:
    """What fine-tuning takes, after one dry step.

    Attributes:
        steps: that are made.
        parameters: numbers that are learned.
        kept_bytes: that the backward pass of a step needs kept.
        state_bytes: of the learned weights and of what the optimizer keeps of them.
        seconds: of all steps, at most.
    """

    steps: int
    parameters: int
    kept_bytes: int
    state_bytes: int
    seconds: float

    @property
    def table(self) -> dict[str, float]:
        """The plan as JSON values."""
        return {
            "steps": self.steps,
            "parameters": self.parameters,
            "seconds": round(self.seconds, 1),
            "kept_bytes": self.kept_bytes,
            "state_bytes": self.state_bytes,
        }

    @property
    def words(self) -> str:
        """The plan in a line, for people."""
        return (
            f"{self.steps} steps on {self.parameters:,} numbers, {duration(self.seconds)},"
            f" {gigabytes(self.kept_bytes + self.state_bytes)} of memory beside the model"
        )


def words_of_losses(history: Sequence[float]) -> str:
    """How the loss fell, in a line, for people: means over the first and the last tenth of the steps.

    Args:
        history: the loss of every step; those that are not finite were skipped.
    """
    made = [loss for loss in history if math.isfinite(loss)]
    if not made:
        return "Loss: no step had a finite one, so that nothing was learned."
    tenth = max(1, len(made) // 10)
    first, last = (sum(some) / tenth for some in (made[:tenth], made[-tenth:]))
    skipped = len(history) - len(made)
    others = (
        f" {skipped} of {len(history)} steps were skipped, as their loss was not a finite number." if skipped else ""
    )
    return f"Loss: {first:.4f} at first, {last:.4f} at last.{others}"


@dataclass(frozen=True)
class FinetuningCallbacks:
    """What fine-tuning calls while it goes on. What they raise breaks it off, and comes through.

    Attributes:
        report: called after every step with the steps made, the steps there are, and the loss of the last one.
        check: called more often than that.
        stop: asked after every step whether to end with what has been learned.
        plan: called with what it is going to take.
    """

    report: Callable[[int, int, float], None] = lambda done, of, loss: None
    check: Callable[[], None] = lambda: None
    stop: Callable[[], bool] = lambda: False
    plan: Callable[[FinetuningPlan], None] = lambda plan: None


NO_CALLBACKS = FinetuningCallbacks()
