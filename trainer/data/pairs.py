"""Writes the pairs of prompts of a run: what it learns from and what it is asked about."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from ...engines.starting.prompts import FirstPrompts
from ...runs.seeds import generator as seeded
from ..settings import TrainingSettings
from ..validation import PORTRAITS, HeldOut, Subjects, spread
from .common_prompts import prompts_of_people, prompts_of_things
from .identities import ANYBODY, Identity
from .long_prompts import EVERY as LONG_EVERY
from .long_prompts import choosing, long_general_prompts
from .pictures import Pair, general_pairs, identity_pairs, spoken_pairs
from .prompts import GENERAL_PROMPTS
from .shards import shards_of

MOST_NAMED = 576
"""Prompts that name somebody, at most, among those that a conditional prefix begins from; about as many do not."""


@dataclass(frozen=True)
class TrainingPairs:
    """The pairs of prompts of a run.

    Attributes:
        learned: those that are learned from with a picture, of as many people and prompts as the settings want drawn.
        questions: those that choose the best snapshot.
        reported: those that the record's figures are about; none where there are too few for both.
        spoken: those that the warm start learns from: `learned`, one of each person that no picture is drawn for,
            and others.
        people: those whose portraits are drawn, in the order of `learned`.
        shards: of the pictures of `learned`, see `data.shards`.
    """

    learned: tuple[Pair, ...]
    questions: tuple[Pair, ...]
    reported: tuple[Pair, ...]
    spoken: tuple[Pair, ...]
    people: tuple[Identity, ...]
    shards: tuple[int, ...]

    @property
    def portraits(self) -> int:
        """Pairs of `learned` that name each of `people`; they stand first, person by person."""
        return sum(pair.names_somebody for pair in self.learned) // max(1, len(self.people))

    def learned_of(self, people: Iterable[int]) -> list[int]:
        """Pairs of `learned` that name these people, all by their places."""
        return [person * self.portraits + number for person in people for number in range(self.portraits)]

    def spoken_without(self, people: Collection[int]) -> tuple[Pair, ...]:
        """Those of `spoken` that name none of these people, by their place in `people`."""
        unsaid = {*self.learned_of(people), *(len(self.learned) + person for person in people)}
        return tuple(pair for place, pair in enumerate(self.spoken) if place not in unsaid)

    @property
    def drawn(self) -> tuple[Pair, ...]:
        """Those that a picture is drawn for, in this order."""
        return self.learned + self.questions + self.reported


def training_pairs(held_out: HeldOut, settings: TrainingSettings) -> TrainingPairs:
    """The pairs of these people and prompts; they follow from the settings' seed. Nobody is left out of `spoken`."""
    choices = seeded(settings.seed, "choices")
    people, prompts = held_out.learned.people, held_out.learned.prompts
    drawn, others = chosen_apart(people, settings.people_drawn)
    learned = identity_pairs(drawn, settings.portraits_per_identity, choices, settings.vary_names)
    short = prompts[: max(1, settings.general_drawn * LONG_EVERY // (LONG_EVERY + 1))]
    learned += general_pairs((*short, *long_general_prompts(short, choosing(choices))))
    spoken = learned + spoken_pairs((*drawn, *others), GENERAL_PROMPTS, choices)
    spoken += identity_pairs(others, 1, choices, settings.vary_names) + general_pairs(prompts[len(short) :])
    questions, reported = (
        identity_pairs(subjects.people, PORTRAITS, choices, long_every=PORTRAITS) + general_pairs(subjects.prompts)
        for subjects in (held_out.choosing, held_out.reporting)
    )
    shards = shards_of(learned, settings.shards, settings.portraits_per_identity)
    return TrainingPairs(learned, questions, reported, spoken, drawn, shards)


def first_prompts(subjects: Subjects, seed: int) -> FirstPrompts:
    """Prompts of all kinds about those that are learned from; they follow from the seed.

    Some of those that name nobody are the twins of some that do: what is said around a name is no name. Others are made
    of common words, see `common_prompts`.
    """
    choices = seeded(seed, "gate")
    people = spread(subjects.people, MOST_NAMED)
    ways = max(1, MOST_NAMED // len(people))
    pairs = identity_pairs(people, ways, choices, vary=True)
    choose = choosing(choices)
    short = spread(subjects.prompts, MOST_NAMED // 4)
    long = long_general_prompts(short, choose)
    twins = [pair.teacher for pair in pairs[::4]]
    common = (*prompts_of_things(MOST_NAMED // 3, choose), *prompts_of_people(MOST_NAMED // 6, choose))
    others = dict.fromkeys(("", *short, *long, *twins, *common))
    described: dict[str, str] = {}
    twin_of: dict[str, str] = {}
    whom: dict[str, int] = {}
    for place, pair in enumerate(pairs):
        whom.setdefault(pair.student, place // ways)
        twin_of.setdefault(pair.student, pair.teacher if _is_every_other(place) else "")
        words = people[place // ways].description.strip() or ANYBODY
        described[pair.student] = words if described.get(pair.student, words) == words else ""
    return FirstPrompts(
        named=tuple(described),
        others=tuple(others),
        described=tuple(described.values()),
        whom=tuple(whom.values()),
        twins=tuple(twin_of.values()),
        anybody=ANYBODY,
    )


def _is_every_other(place: int) -> bool:
    """Whether a pair is of one half, which has its half of long prompts: these stand at every fourth place."""
    return (place + place // LONG_EVERY) % 2 == 0


def chosen_apart(people: Sequence[Identity], most: int) -> tuple[tuple[Identity, ...], tuple[Identity, ...]]:
    """At most so many of the people, from everywhere in the list, and the others; both in its order."""
    chosen = set(spread(range(len(people)), most))
    return tuple(people[i] for i in sorted(chosen)), tuple(p for i, p in enumerate(people) if i not in chosen)
