"""Writes the pairs of prompts of a run: what it learns from and what it is asked about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...runs.seeds import generator as seeded
from ..settings import TrainingSettings
from ..validation import PORTRAITS, HeldOut, spread
from .identities import Identity
from .long_prompts import EVERY as LONG_EVERY
from .long_prompts import choosing, long_general_prompts
from .pictures import Pair, general_pairs, identity_pairs, spoken_pairs
from .prompts import GENERAL_PROMPTS


@dataclass(frozen=True)
class TrainingPairs:
    """The pairs of prompts of a run.

    Attributes:
        lessons: those that are learned from with a picture, of as many people and prompts as the settings want drawn.
        questions: those that choose the best snapshot.
        reported: those that the record's figures are about; none where there are too few for both.
        spoken: those that the warm start learns from: the lessons, and some that no picture is drawn for.
    """

    lessons: tuple[Pair, ...]
    questions: tuple[Pair, ...]
    reported: tuple[Pair, ...]
    spoken: tuple[Pair, ...]

    @property
    def drawn(self) -> tuple[Pair, ...]:
        """Those that a picture is drawn for, in this order."""
        return self.lessons + self.questions + self.reported


def training_pairs(held_out: HeldOut, settings: TrainingSettings) -> TrainingPairs:
    """The pairs of these people and prompts; they follow from the settings' seed. Nobody is left out of `spoken`."""
    choices = seeded(settings.seed, "choices")
    people, prompts = held_out.learned.people, held_out.learned.prompts
    drawn, others = chosen_apart(people, settings.people_drawn)
    lessons = identity_pairs(drawn, settings.portraits_per_identity, choices, settings.vary_names)
    short = prompts[: max(1, settings.general_drawn * LONG_EVERY // (LONG_EVERY + 1))]
    lessons += general_pairs((*short, *long_general_prompts(short, choosing(choices))))
    spoken = lessons + spoken_pairs(people, GENERAL_PROMPTS, choices)
    spoken += identity_pairs(others, 1, choices, settings.vary_names) + general_pairs(prompts[len(short) :])
    questions, reported = (
        identity_pairs(subjects.people, PORTRAITS, choices, long_every=PORTRAITS) + general_pairs(subjects.prompts)
        for subjects in (held_out.choosing, held_out.reporting)
    )
    return TrainingPairs(lessons, questions, reported, spoken)


def chosen_apart(people: Sequence[Identity], most: int) -> tuple[tuple[Identity, ...], tuple[Identity, ...]]:
    """At most so many of the people, from everywhere in the list, and the others; both in its order."""
    chosen = set(spread(range(len(people)), most))
    return tuple(people[i] for i in sorted(chosen)), tuple(p for i, p in enumerate(people) if i not in chosen)
