"""Without this module a run would end in numbers alone: what was learned, told in plain words."""

from __future__ import annotations

import math
from collections.abc import Sequence

from .loop import Learned

WINDOW = 50
"""Steps over which losses are averaged at the start and at the end of a run."""

MEANING = (
    "Both are distances from what the model draws for the same prompt without names; 0 is perfect."
    " Look at pictures of people it has not met, without and with it, before you rely on the prefix."
)


def describe(learned: Learned) -> str:
    """A report for the artist: what was learned on, how long it took, what became of names and of other prompts."""
    record = learned.prefix.record
    people = "1 person" if record.identities == 1 else f"{record.identities} people"
    return "\n".join(
        (
            f"Learned a prefix of {learned.prefix.length} vectors on {people} in {record.steps} steps.",
            f"Drawing the pictures took {learned.drawing_seconds:.0f} s, learning {learned.learning_seconds:.0f} s.",
            "People named in the prompt: " + _change([losses.identities for losses in learned.history]),
            "Prompts that name nobody: " + _change([losses.general for losses in learned.history]),
            MEANING,
        )
    )


def _change(losses: Sequence[float]) -> str:
    values = [loss for loss in losses if not math.isnan(loss)]
    if not values:
        return "none were seen; raise the number of steps or the batch size."
    window = max(1, min(WINDOW, len(values) // 2))
    first, last = sum(values[:window]) / window, sum(values[-window:]) / window
    return f"{first:.4f} at the start, {last:.4f} at the end."
