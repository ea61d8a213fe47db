"""Validates a prefix on people whom it does not learn from.

No face network is needed. For a portrait of somebody, noised, the model predicts one thing when told the name and
another when told the looks alone; that difference is the *identity signal*. What a prefix leaves of it is

    Σ ‖student(name) − goal‖² / Σ ‖plain(name) − goal‖²

over the people, pictures and noises of the validation, where the goal is the teacher's prediction, or what lies past it
by the settings' overshoot (`objective.beyond`): 1 without a prefix, 0 where the name says no more than the looks. For
prompts that name nobody, how far the prefix moves them is measured against what their words do at all:

    Σ ‖student(prompt) − plain(prompt)‖² / Σ ‖plain(prompt) − plain("")‖²
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from ..engines.denoiser import Denoiser, Layer, Vectors
from ..engines.micro_batches import MicroBatches
from ..runs.seeds import generator as seeded
from ..runs.seeds import stratified_times
from .data.identities import Identity
from .data.list_text import sameness
from .data.pictures import Pair, Pictures
from .objective import beyond, distances
from .parallel.team import ALONE, Team, share
from .state import Score

T = TypeVar("T")

LEAST_TO_HOLD_OUT = 8
"""With fewer people, or general prompts, none is held out."""

LEAST_ASKED = 3
"""People, and general prompts, that a validation asks about at least, where any are held out."""

MOST_HELD_OUT = 12
"""People, and general prompts, that are held out at most."""

PORTRAITS = 2
"""Of each person, one of them from a long prompt."""

MOST_ASKED = 12
"""Pictures of people, and of other things, that a validation asks about at most."""

NOISES = 4
"""Noises in which each picture of the validation is seen, at times spread over the schedule."""

COST = 0.05
"""Share of the run's denoiser evaluations that validation may take; a step takes three for each picture of its
batch."""

LEAST_BETWEEN = 10
"""Steps between two validations, at least."""


@dataclass(frozen=True)
class Subjects:
    """People and general prompts."""

    people: tuple[Identity, ...]
    prompts: tuple[str, ...]


@dataclass(frozen=True)
class HeldOut:
    """Who and what is learned from, and who and what is asked about.

    Attributes:
        learned: that the prefix learns from.
        choosing: that choose the best snapshot.
        reporting: that the figures of the record are about; they choose nothing. None where few are held out: then
            the figures are about those that chose.
    """

    learned: Subjects
    choosing: Subjects
    reporting: Subjects

    @property
    def people(self) -> tuple[Identity, ...]:
        """All that are not learned from."""
        return self.choosing.people + self.reporting.people


def hold_out(identities: Sequence[Identity], prompts: Sequence[str], share: float, seed: int) -> HeldOut:
    """Holds out a share of the people and of the general prompts, never the empty one; none where there are few.

    Names, and prompts, that differ in case, spaces or composed accents alone are one: none is on both sides. Of those
    that are held out under several such names the first is examined.

    Args:
        share: 0 holds out none.
        seed: who it is follows from it.
    """
    people, held_people = _split(identities, [one.key for one in identities], share, seed, "held out people")
    words = [prompt for prompt in prompts if prompt.strip()]
    stay, held_prompts = _split(words, [sameness(prompt) for prompt in words], share, seed, "held out prompts")
    staying = set(stay)
    kept = tuple(prompt for prompt in prompts if prompt in staying or not prompt.strip())
    choosing, reporting = zip(_halves(held_people), _halves(held_prompts), strict=True)
    return HeldOut(Subjects(tuple(people), kept), Subjects(*choosing), Subjects(*reporting))


def validation_pictures(learned: Sequence[Pair], questions: Sequence[Pair]) -> list[int]:
    """The pictures that choose the best snapshot: those of questions, or of a kind that has none, those learned from.

    Args:
        learned: pairs that are learned from; their pictures stand first.
        questions: pairs that are held out.
    """
    chosen = []
    for kind in (True, False):
        asked = [len(learned) + i for i, pair in enumerate(questions) if pair.names_somebody is kind]
        chosen += asked or [i for i, pair in enumerate(learned) if pair.names_somebody is kind]
    return chosen


def steps_between(questions: int, batch_size: int) -> int:
    """How many steps lie between two validations, so that they take no more than their share of the run."""
    return max(LEAST_BETWEEN, math.ceil(questions / (COST * 3 * batch_size)))


class Validation:
    """Pictures in fixed noises, with what the plain model makes of them; asked again and again of a growing prefix.

    Args:
        pictures: all that were drawn.
        chosen: those that validation asks about; of either kind at most `MOST_ASKED` are taken.
        seed: times and noises follow from it.
        micro_batches: how many predictions are made at once.
        team: among whom the predictions are dealt out.

    Attributes:
        layers: those that are asked about, all of the denoiser's at first; settled before the first score.
        overshoot: of the goal; settled then too.
        pictures: that are asked about; drawn before the first score.
    """

    layers: Sequence[Layer]
    overshoot: float = 0.0

    def __init__(
        self,
        denoiser: Denoiser,
        pictures: Pictures,
        chosen: Sequence[int],
        seed: int,
        micro_batches: MicroBatches,
        team: Team = ALONE,
    ) -> None:
        self._team = team
        self._denoiser = denoiser
        self.layers = denoiser.layers
        self._micro_batches = micro_batches
        by_kind = {
            kind: [index for index in chosen if pictures.pairs[index].names_somebody is kind] for kind in (True, False)
        }
        asked = [index for indices in by_kind.values() for index in spread(indices, MOST_ASKED)]
        # Guidance asks for the negative prompt as well, with a weight of its own.
        negative = Pair("", "", names_somebody=False)
        without = round(NOISES * denoiser.unconditional_share)
        self._pairs = [
            negative if noise < without and not pictures.pairs[index].names_somebody else pictures.pairs[index]
            for index in asked
            for noise in range(NOISES)
        ]
        self._latents = pictures.latents
        self.pictures = asked
        # The words are part of the seed, and so they stay.
        self._times = stratified_times(len(self._pairs), seeded(seed, "exam times"))
        self._seed = seed
        self._names = torch.tensor([pair.names_somebody for pair in self._pairs], dtype=torch.bool)
        self._goal: Tensor | None = None
        self._full = torch.zeros(0)

    def __len__(self) -> int:
        return len(self._pairs)

    def asks(self, names_somebody: bool) -> bool:
        """Whether any question names somebody, or whether any does not."""
        return bool((self._names == names_somebody).any())

    @torch.no_grad()
    def score(self, vectors: Vectors, step: int) -> Score:
        """The score of a prefix; must be called inside `Denoiser.gradients`. NaN if predictions are not finite."""
        self._ask_plain()
        left = self._left(vectors)
        return Score(step, *(_share(left[kind], self._full[kind]) for kind in (self._names, ~self._names)))

    @torch.no_grad()
    def left_by_layer(self, vectors: Vectors) -> dict[Layer, float]:
        """The share of the identity signal that a prefix leaves at each layer that is asked about."""
        self._ask_plain()
        left = self._left(vectors)
        read = [self._layer(index) for index in range(len(self._pairs))]
        return {
            layer: _share(left[at], self._full[at])
            for layer in self.layers
            if (at := self._names & torch.tensor([other == layer for other in read])).any()
        }

    def _ask_plain(self) -> None:
        """Asks the model without a prefix, once: for the goal, and for what there is to lose."""
        if self._goal is not None:
            return
        teacher = self._predict([pair.teacher for pair in self._pairs])
        plain = self._predict([pair.student if pair.names_somebody else "" for pair in self._pairs])
        past = torch.tensor([pair.overshoots for pair in self._pairs]).reshape(-1, *[1] * (teacher.ndim - 1))
        self._goal = torch.where(past, beyond(teacher, plain, self.overshoot), teacher)
        self._full = distances(plain, self._goal).double()

    def _left(self, vectors: Vectors) -> Tensor:
        """Distance of each prediction with a prefix from its goal."""
        return distances(self._predict([pair.student for pair in self._pairs], vectors), self._goal).double()

    def _layer(self, index: int) -> Layer:
        """The layer that a question's prompts are read at: each picture is seen at every one in turn."""
        return self.layers[sum(divmod(index, NOISES)) % len(self.layers)]

    def _predict(self, prompts: Sequence[str], vectors: Vectors | None = None) -> Tensor:
        def ask(indices: Sequence[int]) -> Tensor:
            latents = torch.stack([self._latents[self.pictures[index // NOISES]] for index in indices])
            noise = torch.stack(
                [torch.randn(latents[0].shape, generator=seeded(self._seed, "exam noise", index)) for index in indices]
            )
            times = self._times[list(indices)]
            spoken = [(prompts[index], self._layer(index)) for index in indices]
            unique = list(dict.fromkeys(spoken))
            words, layers = [prompt for prompt, _ in unique], [layer for _, layer in unique]
            encoded = dict(zip(unique, self._denoiser.encode(words, vectors, layers), strict=True))
            noised = self._denoiser.add_noise(latents, noise, times)
            conditioning = [encoded[prompt] for prompt in spoken]
            return self._denoiser.predict(noised, times, conditioning).float().cpu()

        mine = share(self._team, range(len(self._pairs)))
        predictions = torch.zeros(len(self._pairs), *self._denoiser.latent_shape)
        if mine:
            predictions[mine] = torch.cat(self._micro_batches.work(ask, mine))
        return self._team.summed([predictions])[0]


def _split(items: Sequence[T], keys: Sequence[str], share: float, seed: int, purpose: str) -> tuple[list[T], list[T]]:
    """What stays and what is held out, both in the order of the list; of items with one key at most one is in both."""
    different = list(dict.fromkeys(keys))
    if share <= 0 or len(different) < LEAST_TO_HOLD_OUT:
        return list(items), []
    count = min(MOST_HELD_OUT, max(LEAST_ASKED, round(share * len(different))))
    order = torch.randperm(len(different), generator=seeded(seed, purpose))[:count]
    chosen = {different[index] for index in order.tolist()}
    first = {key: item for key, item in zip(reversed(keys), reversed(items), strict=True) if key in chosen}
    stay = [item for key, item in zip(keys, items, strict=True) if key not in chosen]
    return stay, [first[key] for key in different if key in chosen]


def _halves(items: Sequence[T]) -> tuple[tuple[T, ...], tuple[T, ...]]:
    """One half for either purpose; all for the first where a half would be too few."""
    half = (len(items) + 1) // 2
    return (tuple(items[:half]), tuple(items[half:])) if len(items) >= 2 * LEAST_ASKED else (tuple(items), ())


def spread(items: Sequence[T], most: int) -> list[T]:
    """At most so many of the items, from everywhere in the list."""
    return [items[index * len(items) // most] for index in range(most)] if len(items) > most else list(items)


def _share(parts: Tensor, wholes: Tensor) -> float:
    """Zero where there was nothing to lose; NaN if a prediction was not finite."""
    part, whole = float(parts.sum()), float(wholes.sum())
    return 0.0 if whole == 0 else part / whole
