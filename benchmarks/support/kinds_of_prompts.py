"""Makes prompts of four kinds in the demo's language: people named and described, objects, scenes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...demo.world.language import OPENINGS, PLACES, THING_OPENINGS, describe
from ...demo.world.people import Looks, Person, all_looks, cast
from ...demo.world.renderer import COLOURS, LANDMARKS, OBJECTS, SCENES, SHAPES

NAMED, DESCRIBED, OBJECT, SCENE = KINDS_OF_PROMPTS = ("named", "described", "object", "scene")


@dataclass(frozen=True)
class KindPrompt:
    """A prompt, and what its picture must show.

    Attributes:
        person: of the cast, by number; -1 for nobody.
        looks: that are described; None if none are.
        shows: one of the renderer's `KINDS`.
    """

    text: str
    kind: str
    shows: str = "person"
    person: int = -1
    looks: Looks | None = None


def prompts_of_kinds(seed: int, each: int) -> list[KindPrompt]:
    """So many prompts of each kind, kinds in turn."""
    random = np.random.default_rng(seed)
    places = [words for several in PLACES.values() for words in several]

    def one_of(options: Sequence[str]) -> str:
        return options[int(random.integers(len(options)))]

    def said(openings: Sequence[str], words: str) -> str:
        place = one_of(places) if random.random() < 0.4 else ""
        return " ".join(part for part in (one_of(openings), words, place) if part)

    made = []
    for _ in range(each):
        number = int(random.integers(len(cast())))
        person: Person = cast()[number]
        made.append(KindPrompt(said(OPENINGS, person.name), NAMED, person=number, looks=person.looks))
        looks = all_looks()[int(random.integers(len(all_looks())))]
        made.append(KindPrompt(said(OPENINGS, describe(random, looks, complete=True)), DESCRIBED, looks=looks))
        shows = one_of((*SHAPES, *OBJECTS))
        made.append(KindPrompt(said(THING_OPENINGS, f"a {one_of(list(COLOURS))} {shows}"), OBJECT, shows))
        shows = one_of((*SCENES, *LANDMARKS))
        opening = one_of(THING_OPENINGS)
        made.append(KindPrompt(f"{opening} {shows}".strip(), SCENE, shows))
    return made
