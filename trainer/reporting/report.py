"""Tells in plain words what was learned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..progress import Learned

LITTLE, MUCH = 0.1, 0.3
"""Shares below which something is little, above which much."""

MEANING = "Look at pictures of people it has not met, without and with it, before you rely on the prefix."


def describe(learned: Learned) -> str:
    """A report for the artist: what was learned on, what became of names and of other prompts, where it ended and why.

    The figures are those of the prefix's own record.
    """
    record = learned.prefix.record
    people = _count(record.identities, "person", "people")
    lines = [
        f"Learned a prefix of {learned.prefix.length} vectors on {people} in {_count(record.steps, 'step', 'steps')}.",
        _identities(learned),
        _general(learned.figures.general),
        _ending(learned),
        _chosen(record.settings),
        f"Drawing the pictures took {learned.drawing_seconds:.0f} s, learning {learned.learning_seconds:.0f} s.",
        *learned.notes,
        MEANING,
    ]
    return "\n".join(lines)


def _identities(learned: Learned) -> str:
    gone = 1 - learned.figures.identities
    asked = (
        f"{_count(learned.examined, 'person', 'people')} it did not learn from"
        if learned.examined
        else "the people it learned from, in other noise (with fewer than 8 people none is held out)"
    )
    if learned.chose:
        asked += ", who chose the best prefix as well: too few are held out for both"
    if gone <= 0:
        return f"None of the identity signal is gone, examined on {asked}: take more steps, or another learning rate."
    advice = " Take more steps to remove more." if learned.figures.identities > MUCH else ""
    return f"{_percent(gone)} of the identity signal is gone, examined on {asked}.{advice}"


def _general(moved: float) -> str:
    words = "hardly changed" if moved < LITTLE else "changed somewhat" if moved < MUCH else "changed a lot"
    advice = " Give it more general prompts, or take more steps." if moved >= MUCH else ""
    return f"Prompts that name nobody {words}: by {_percent(moved)} of what their words do.{advice}"


def _ending(learned: Learned) -> str:
    best, steps = learned.best.step, learned.prefix.record.steps
    ended = learned.stopped or "It made all its steps."
    if best == 0:
        start = "warm start" if learned.prefix.record.settings.get("text_steps") else "start"
        return f"{ended} The prefix is that of the {start}, the best there was; what came later did worse."
    if best == steps:
        return f"{ended} The prefix is that of the last step, the best there was."
    return f"{ended} The prefix is that of step {best}, the best there was; what came later did worse."


def _chosen(settings: Mapping[str, Any]) -> str:
    """What the preset chose, or the artist in its place."""
    return (
        f"Preset {settings['preset']}: {_count(settings['steps'], 'step', 'steps')} of"
        f" {_count(settings['batch_size'], 'picture', 'pictures')} at most, after {settings['text_steps']} in the text"
        f" encoder; {_count(settings['portraits_per_identity'], 'portrait', 'portraits')} of each of at most"
        f" {_count(settings['people_drawn'], 'person', 'people')}, at most {settings['general_drawn']} other pictures."
    )


def _percent(share: float) -> str:
    return "less than 1 %" if 0 < share < 0.005 else f"{share * 100:.0f} %"


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
