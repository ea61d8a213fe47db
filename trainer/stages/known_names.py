"""Tells which names the model does not seem to know: their portraits are no more alike than different people's.

Nothing is drawn or asked for this: the pictures to learn from are there. Their latents are compared in the middle,
where faces are, each element measured by how it varies over all portraits. How alike portraits of nobody in particular
are is seen in groups of as many portraits of different people (docs/METHODS.md 2.8).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...runs.seeds import generator as seeded
from ...runs.tensor_store import TensorStore
from ..data.identities import Identity

LEAST_PEOPLE, LEAST_PORTRAITS = 8, 3
"""With fewer nothing can be told."""

GROUPS = 2000
"""Groups of portraits of different people that are looked at."""

UNKNOWN, KNOWN = 0.85, 0.99
"""Shares of these groups that are less alike than what counts as unknown at most, and as known at least."""

MOST_COMPARED = 4096
"""Portraits that these groups and the elements' variances are taken from, at most; from everywhere in the list."""

CELLS = 12
"""Cells a side that the middle of a large latent is averaged to."""

MOST_NAMED = 6
"""Names that a sentence lists."""


@dataclass(frozen=True)
class Knowledge:
    """What the portraits tell of whom the model knows.

    Attributes:
        examined: how many people were looked at; none where there is too little to tell anything from.
        unknown: the people, by their place in the list, whom it does not seem to know.
        tells: whether the portraits of most people are more alike than those of different ones; where they are not,
            either it knows most of them not, or its portraits cannot be compared like this.
        leaves_out: whether unknown names are not learned from.
    """

    examined: int = 0
    unknown: tuple[int, ...] = ()
    tells: bool = True
    leaves_out: bool = True

    @property
    def left_out(self) -> tuple[int, ...]:
        """Who is not learned from."""
        return self.unknown if self.tells and self.leaves_out else ()


def knowledge_of(latents: TensorStore | Tensor, people: Sequence[int], portraits: int, seed: int) -> Knowledge:
    """Compares portraits.

    Args:
        latents: the pictures by index: `portraits` of each person in turn, from the first on.
        people: whose are compared, by their place. Nothing can be told before all of these are there.
        seed: the groups follow from it.
    """
    if len(people) < LEAST_PEOPLE or portraits < LEAST_PORTRAITS:
        return Knowledge()
    wanted = (person * portraits + number for person in people for number in range(portraits))
    if isinstance(latents, TensorStore) and any(index not in latents for index in wanted):
        return Knowledge()
    step = max(1, len(people) * portraits // MOST_COMPARED)
    compared = torch.stack([row for person in people[::step] for row in _rows(latents, person, portraits)])
    mean, spread = compared.mean(0), compared.std(0).clamp_min(1e-6)
    directions = _directions(compared, mean, spread).reshape(-1, portraits, compared.shape[1])
    generator = seeded(seed, "alike")
    groups = (_group(directions, generator) for _ in range(GROUPS))
    different = torch.cat([alikeness(group[None]) for group in groups])
    different -= different.mean()  # No face comes twice in a group, as it may by chance: they are a little too unlike.
    if not bool(torch.isfinite(different).all()):
        return Knowledge()
    alike = torch.cat(
        [
            alikeness(_directions(torch.stack(list(_rows(latents, person, portraits))), mean, spread)[None])
            for person in people
        ]
    )
    is_unknown = (alike <= different.quantile(UNKNOWN)).tolist()
    unknown = tuple(person for person, it_is in zip(people, is_unknown, strict=True) if it_is)
    return Knowledge(len(people), unknown, bool(alike.median() > different.quantile(KNOWN)))


class KnownNames:
    """Examines names as their portraits are drawn, shard by shard, each before it is learned from; a verdict stays.

    Each shard is compared with those before it, so that whoever goes on with a run finds the same.

    Args:
        latents: see `knowledge_of`.
        shards: of the people's portraits, by the people's place.
        portraits: of each.
        leaves_out: whether unknown names are not to be learned from; else they are only told.

    Attributes:
        knowledge: of all that were examined so far.
    """

    def __init__(
        self, latents: TensorStore | Tensor, shards: Sequence[int], portraits: int, seed: int, leaves_out: bool = True
    ) -> None:
        self.knowledge = Knowledge(leaves_out=leaves_out)
        self._leaves_out = leaves_out
        self._latents = latents
        self._shards = shards
        self._portraits = portraits
        self._seed = seed
        self._next = 0

    def examine(self) -> bool:
        """Examines the shards that are drawn by now and were not yet; whether there were any."""
        before = self._next
        while self._next <= max(self._shards, default=-1):
            people = [person for person, shard in enumerate(self._shards) if shard <= self._next]
            found = knowledge_of(self._latents, people, self._portraits, self._seed)
            if not found.examined:
                break
            told = found.unknown if found.tells else ()
            new = {person for person in told if self._shards[person] == self._next}
            unknown = tuple(sorted(new.union(self.knowledge.unknown if self.knowledge.tells else ())))
            found = Knowledge(len(people), unknown) if unknown else found
            self.knowledge = dataclasses.replace(found, leaves_out=self._leaves_out)
            self._next += 1
        return self._next > before


def alikeness(groups: Tensor) -> Tensor:
    """Mean cosine of all pairs within each group of unit vectors `[n, k, d]`: `[n]`."""
    count = groups.shape[1]
    return (groups.sum(1).square().sum(-1) - count) / (count * (count - 1))


def sentences(knowledge: Knowledge, people: Sequence[Identity], learned: int) -> list[str]:
    """What there is to say of it to the artist, and of whom nothing can be said.

    Args:
        people: those whose portraits may be drawn.
        learned: how many are learned from, these among them.
    """
    if not knowledge.examined:
        return [
            "It was not examined whether the model knows the names: that takes"
            f" {LEAST_PORTRAITS} portraits of each of {LEAST_PEOPLE} people."
        ]
    others = learned - knowledge.examined
    return [
        *_about(knowledge, people),
        *([f"Names of {others} more were not examined: no portraits of them were drawn."] if others else []),
    ]


def _about(knowledge: Knowledge, people: Sequence[Identity]) -> list[str]:
    names = [people[index].name for index in knowledge.unknown]
    if not names:
        return []
    if not knowledge.tells:
        return [
            "The portraits of most names are no more alike than those of different people: the model may not know them."
            " Look at its pictures, and name people whom it draws as the same person every time."
        ]
    told = ", ".join(names[:MOST_NAMED]) + (f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else "")
    known = f"The model does not seem to know {told}: it draws somebody else every time"
    if not knowledge.leaves_out:
        return [f"{known}. See whether the spelling is the model's."]
    return [f"{known}, so nothing was learned from {'that name' if len(names) == 1 else 'these names'}."]


def _rows(latents: TensorStore | Tensor, person: int, portraits: int) -> Iterator[Tensor]:
    """The middles of a person's portraits, `[d]` each."""
    for index in range(person * portraits, (person + 1) * portraits):
        latent = latents[index].float()
        height, width = latent.shape[-2:]
        middle = latent[..., height // 4 : height - height // 4, width // 4 : width - width // 4]
        if max(middle.shape[-2:]) > CELLS:
            cells = tuple(min(CELLS, side) for side in middle.shape[-2:])
            middle = torch.nn.functional.adaptive_avg_pool2d(middle.reshape(-1, *middle.shape[-2:]), cells)
        yield middle.flatten()


def _directions(rows: Tensor, mean: Tensor, spread: Tensor) -> Tensor:
    """Unit vectors of `[n, d]`."""
    return torch.nn.functional.normalize((rows - mean) / spread, dim=1)


def _group(directions: Tensor, generator: torch.Generator) -> Tensor:
    """One portrait `[d]` each of different people, as many as each person has."""
    people, portraits = directions.shape[:2]
    who = torch.randperm(people, generator=generator)[:portraits]
    return directions[who, torch.randint(portraits, (portraits,), generator=generator)]
