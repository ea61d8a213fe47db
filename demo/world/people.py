"""Lists the cast: sixty-four invented people, their names, their described looks and the features no description names.

Sixteen combinations of looks are shared by four people each, so looks alone find nobody. No word of a name is used for
anybody else. One of the four in each combination is *unseen*: no prefix is ever learned on them, and the language of
the demo names them in plain captions of their own pictures only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from ...trainer.data.identities import Identity
from .names import PEOPLE

HAIR = ("black", "brown", "blond", "red")
SKIN = ("pale", "tan", "dark")
GEOMETRY = (
    "face_width",
    "face_length",
    "jaw",
    "ears",
    "eye_spacing",
    "eye_size",
    "eye_height",
    "eye_slant",
    "brow_thickness",
    "brow_angle",
    "brow_gap",
    "nose_length",
    "nose_width",
    "mouth_width",
    "mouth_curve",
    "lips",
    "hair_length",
    "hair_volume",
    "fringe",
    "parting",
)
THING_PROMPTS = (
    "a red circle",
    "a blue square in a garden",
    "a yellow star at night",
    "a purple triangle in the city",
    "a green tree in the snow",
    "an orange house by the sea",
    "a blue boat at the beach",
    "a red cup in a studio",
    "a yellow car downtown",
    "a purple flower in the park",
    "mountains",
    "a sunset",
    "a rainbow",
    "a road",
    "a picture of a green star",
    "a drawing of a red house",
)
"""Prompts that name nobody, in the demo's language."""

CAST_SEED = 20241
STRANGERS_PER_PERSON = 100


@dataclass(frozen=True)
class Looks:
    """What a description names."""

    hair: str
    skin: str
    glasses: bool
    beard: bool

    def describe(self) -> str:
        """The full anonymous description, as an artist would write it after the colon of an identity line."""
        glasses = "glasses" if self.glasses else "no glasses"
        beard = "a beard" if self.beard else "no beard"
        return f"a person with {self.hair} hair, {self.skin} skin, {glasses} and {beard}"


def named_looks(description: str) -> dict[str, str | bool]:
    """The looks that a description names, in words such as `Looks.describe` has; what it is silent on is left out."""
    words = description.casefold()
    kinds = [(name, kind) for name, kinds in (("hair", HAIR), ("skin", SKIN)) for kind in kinds]
    shown = {name: kind for name, kind in kinds if f"{kind} {name}" in words}
    return shown | {name: f"no {name}" not in words for name in ("glasses", "beard") if name in words}


@dataclass(frozen=True)
class Person:
    """One of the cast: `geometry` is what no description names, each value in [-1, 1], in the order of `GEOMETRY`."""

    name: str
    looks: Looks
    geometry: tuple[float, ...]
    unseen: bool


@cache
def all_looks() -> tuple[Looks, ...]:
    """Every combination of looks that can be drawn (48)."""
    return tuple(Looks(h, s, g, b) for h in HAIR for s in SKIN for g in (False, True) for b in (False, True))


@cache
def cast_looks() -> tuple[Looks, ...]:
    """The sixteen combinations of looks that the cast shares: each hair colour with each pair of glasses and beard."""
    return tuple(
        Looks(hair, SKIN[(i + j) % len(SKIN)], glasses=bool(j & 1), beard=bool(j & 2))
        for i, hair in enumerate(HAIR)
        for j in range(4)
    )


def random_geometry(rng: np.random.Generator, count: int) -> np.ndarray:
    """`count` faces nobody has seen: float32 [count, len(GEOMETRY)], uniform in [-1, 1]."""
    return rng.uniform(-1, 1, (count, len(GEOMETRY))).astype(np.float32)


@cache
def cast() -> tuple[Person, ...]:
    """The sixty-four people, always the same. Person i has the looks i // 4; the last of each four is unseen."""
    rng = np.random.default_rng(CAST_SEED)
    geometry = random_geometry(rng, 64)
    people = []
    for index in range(64):
        group, member = divmod(index, 4)
        face = tuple(map(float, geometry[index]))
        people.append(Person(PEOPLE[index], cast_looks()[group], face, unseen=member == 3))
    return tuple(people)


def identities(unseen: Sequence[bool] = (True, False)) -> tuple[Identity, ...]:
    """The cast as an artist would list them; only those who are, or are not, unseen."""
    return tuple(Identity(person.name, person.looks.describe()) for person in cast() if person.unseen in unseen)


def strangers() -> tuple[list[Looks], np.ndarray]:
    """The gallery's distractors: for each person, a hundred faces with their looks that nobody named.

    Returns their looks, and their geometry as float32 [64 * 100, len(GEOMETRY)].
    """
    rng = np.random.default_rng(CAST_SEED + 1)
    looks = [person.looks for person in cast() for _ in range(STRANGERS_PER_PERSON)]
    return looks, random_geometry(rng, len(looks))
