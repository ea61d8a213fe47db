"""Says how far fine-tuning is, and what it asks on the way."""

from __future__ import annotations

from collections.abc import Callable
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
