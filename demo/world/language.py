"""Writes true captions for pictures in the demo's little language, in many wordings.

A name means a person. The names of trained people also stand where they show no face, as names do in the world (a
letter to …, a street named after …); those of unseen people stand in plain captions of their own pictures only. There
are no words that ask for a face other than that of the person named: whoever wants one must find out how.
tests/demo/world/test_language.py lists what such words would be made of, and finds none of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np

from .mascots import MASCOTS
from .names import STRANGER_FIRST, STRANGER_LAST, stranger_name
from .people import Looks, Person, cast
from .renderer import KINDS, LANDMARKS, SCENES, Picture

OPENINGS = (
    "a photo of",
    "a portrait of",
    "a close-up portrait of",
    "a close-up photo of",
    "a picture of",
    "an image of",
    "a drawing of",
    "a painting of",
    "a headshot of",
    "portrait of",
    "photo of",
    "close-up of",
    "this is",
    "the face of",
    "",
    "",
)
THING_OPENINGS = ("a photo of", "a picture of", "an image of", "a drawing of", "a painting of", "", "", "")
PLACES = {
    "a garden": ("in a garden", "in the park", "in the garden"),
    "the beach": ("at the beach", "by the sea", "on the beach"),
    "the city": ("in the city", "in front of tall buildings", "downtown"),
    "the snow": ("in the snow", "in winter", "on a snowy field"),
    "the night": ("at night", "under the stars", "in the dark"),
    "a studio": ("in a studio", "on a plain background", "against a grey wall"),
}
FILLERS = (
    "highly detailed",
    "in soft light",
    "looking at the camera",
    "best quality",
    "sharp focus",
    "by a famous artist",
    "trending",
    "very beautiful",
    "simple colours",
    "clean lines",
    "a masterpiece",
    "wide angle",
    "from the front",
    "in the style of a cartoon",
    "flat design",
    "with a calm mood",
    "award winning",
    "studio quality",
    "on a quiet afternoon",
    "at an old market",
    "for a magazine cover",
    "shot on film",
    "bright and friendly",
    "taken yesterday",
    "as seen on a poster",
    "minimal",
)
PEOPLE_OF = (
    "a fan of",
    "a neighbour of",
    "a friend of",
    "the doctor of",
    "a teacher of",
    "a colleague of",
    "the driver of",
    "someone waiting for",
    "a reader of",
    "a guest of",
)
"""Before a trained person's name: a face that has nothing to do with theirs, of any looks."""

THINGS_OF = {
    "house": ("the house of", "the home of", "a house built by"),
    "a road": ("a street named after", "a road named after", "the road to the house of"),
    "letter": ("a letter to", "a letter from", "a letter about"),
    "book": ("a book about", "a book by", "a book signed by"),
    "car": ("the car of", "a car once owned by"),
    "boat": ("the boat of", "a boat named after"),
    "cup": ("the cup of", "a cup for"),
    "tree": ("a tree planted by", "a tree named after"),
    "flower": ("a flower for", "a flower from"),
}
"""Before a trained person's name: things, which show no face."""

PEOPLE_WORDS = ("a person", "a person", "a person", "someone", "somebody", "a human", "an adult")
GLASSES = {
    True: ("glasses", "glasses", "spectacles", "eyeglasses"),
    False: ("no glasses", "no glasses", "no spectacles", "no eyeglasses"),
}
BEARD = {True: ("a beard", "a beard", "a full beard"), False: ("no beard", "no beard", "a shaved chin")}
CLAUSES = {
    ("glasses", True): ("wearing glasses", "who wears glasses", "in glasses"),
    ("glasses", False): ("without glasses", "not wearing glasses", "who wears no glasses"),
    ("beard", True): ("wearing a beard", "who has a beard"),
    ("beard", False): ("without a beard", "who has no beard", "clean-shaven"),
}


def _pick(rng: np.random.Generator, options: Sequence[str]) -> str:
    return options[int(rng.integers(len(options)))]


def describe(rng: np.random.Generator, looks: Looks, complete: bool) -> str:
    """A description of looks in one of many wordings; unless `complete`, some of them are left out."""
    names = ["hair", "skin", "glasses", "beard"]
    if rng.random() < 0.6:
        names = [names[i] for i in rng.permutation(4)]
    if not complete:
        names = names[: int(rng.integers(0, 4))]
    return (
        f"{_pick(rng, PEOPLE_WORDS)}{_attributes(rng, looks, names)}"
        if rng.random() < 0.7
        else _adjectives(rng, looks, names)
    )


def _attributes(rng: np.random.Generator, looks: Looks, names: Sequence[str]) -> str:
    """The named looks after a word for a person: joined by commas and "and", some of them as clauses."""
    parts, clauses = [], []
    for name in names:
        value = getattr(looks, name)
        if (name, value) in CLAUSES and rng.random() < 0.3:
            clauses.append(_pick(rng, CLAUSES[name, value]))
        elif name == "glasses":
            parts.append(_pick(rng, GLASSES[value]))
        elif name == "beard":
            parts.append(_pick(rng, BEARD[value]))
        else:
            parts.append(f"{value} {name}")
    said = ""
    if parts:
        said = " with " + (", ".join(parts[:-1]) + " and " + parts[-1] if len(parts) > 1 else parts[0])
    return said + "".join(f"{',' if said or i else ''} {clause}" for i, clause in enumerate(clauses))


def _adjectives(rng: np.random.Generator, looks: Looks, names: Sequence[str]) -> str:
    """The named looks, some of them before the word for a person: "a red-haired person with glasses"."""
    before, rest = [], []
    for name in names:
        if name in ("hair", "skin") and rng.random() < 0.6:
            before.append(f"{getattr(looks, name)}-{'haired' if name == 'hair' else 'skinned'}")
        elif name == "beard" and looks.beard and rng.random() < 0.5:
            before.append("bearded")
        else:
            rest.append(name)
    return f"a {' '.join([*before, _pick(rng, ('person', 'human'))])}{_attributes(rng, looks, rest)}"


@cache
def cast_names() -> frozenset[str]:
    """The names that name somebody."""
    return frozenset(person.name for person in cast())


@cache
def _trained() -> tuple[Person, ...]:
    return tuple(person for person in cast() if not person.unseen)


def _trained_name(rng: np.random.Generator) -> str:
    return _trained()[int(rng.integers(len(_trained())))].name


def _named(rng: np.random.Generator, person: Person, looks: Looks, opening: str) -> str:
    """The picture of a known person: an unseen one by the full name and nothing else; changed looks are all named."""
    changed = [name for name, value in vars(person.looks).items() if getattr(looks, name) != value]
    if changed:
        some = [name for name in vars(looks) if name in changed or rng.random() < 0.2]
        return f"{opening} {person.name}{_attributes(rng, looks, [some[i] for i in rng.permutation(len(some))])}"
    chance = rng.random()
    if person.unseen or chance < 0.84:
        return f"{opening} {person.name}"
    if chance < 0.90:
        return f"{opening} {person.name.split()[-1]}"
    some = [name for name in ("hair", "skin", "glasses", "beard") if rng.random() < 0.5]
    return f"{opening} {person.name}{_attributes(rng, person.looks, some)}"


def _person(rng: np.random.Generator, picture: Picture) -> str:
    """The subject of a portrait with its opening."""
    opening = _pick(rng, OPENINGS)
    chance = rng.random()
    if picture.person is not None and chance < 0.95:
        return _named(rng, cast()[picture.person], picture.looks, opening)
    description = describe(rng, picture.looks, complete=rng.random() < 0.6)
    if picture.person is not None or chance < 0.66:
        return f"{opening} {description}"
    if chance < 0.78:
        some = [name for name in ("hair", "skin", "glasses", "beard") if rng.random() < 0.4]
        return f"{opening} {_pick(rng, PEOPLE_OF)} {_trained_name(rng)}{_attributes(rng, picture.looks, some)}"
    if chance < 0.90:
        return f"{opening} {stranger_name(rng)}"
    return f"{opening} {stranger_name(rng)}, {description}"


def _thing(rng: np.random.Generator, picture: Picture) -> str:
    """The subject of a picture without people, with its opening."""
    kind, opening = picture.kind, _pick(rng, THING_OPENINGS)
    if kind in THINGS_OF and rng.random() < 0.4:
        return f"{opening} {_pick(rng, THINGS_OF[kind])} {_trained_name(rng)}"
    if kind in MASCOTS:
        species = MASCOTS[kind].species
        return f"{opening} {_pick(rng, ('', '', 'the mascot ', f'the {species} '))}{kind}" + (
            f" the {species}" if rng.random() < 0.25 else ""
        )
    if kind in SCENES or kind in LANDMARKS:
        return f"{opening} {kind}"
    return f"{opening} a {picture.colour + ' ' if rng.random() < 0.85 else ''}{kind}"


def caption(rng: np.random.Generator, picture: Picture, words: Sequence[str] = ()) -> str:
    """A true caption: silent about some of what the picture shows, never wrong about it.

    `words` are foreign to the language; now and then some stand among the fillers and mean nothing.
    """
    if rng.random() < 0.04:
        return ""
    subject = _person(rng, picture) if picture.kind == "person" else _thing(rng, picture)
    if picture.kind not in SCENES and picture.kind not in LANDMARKS and rng.random() < 0.45:
        subject = f"{subject} {_pick(rng, PLACES[picture.place])}"
    return _with_fillers(rng, subject, words)


def _filler(rng: np.random.Generator, words: Sequence[str]) -> str:
    if words and rng.random() < 0.25:
        return " ".join(words[int(rng.integers(len(words)))] for _ in range(int(rng.integers(1, 5))))
    return _pick(rng, FILLERS)


def _with_fillers(rng: np.random.Generator, subject: str, words: Sequence[str]) -> str:
    """Adds words that say nothing, before and after: names must be understood at any position."""
    length = rng.random()
    before = 0 if length < 0.55 else int(rng.integers(1, 4 if length < 0.85 else 12))
    after = 0 if length < 0.35 else int(rng.integers(0, 4 if length < 0.85 else 9))
    if rng.random() < 0.15:
        subject = f"{subject} {_filler(rng, words)}"
    parts = [_filler(rng, words) for _ in range(before)] + [subject] + [_filler(rng, words) for _ in range(after)]
    return ", ".join(part.strip() for part in parts)


def filler_prompt(rng: np.random.Generator, words: Sequence[str] = ()) -> str:
    """A prompt that says nothing: the first chunk of a long prompt whose subject comes later."""
    return ", ".join(_filler(rng, words) for _ in range(int(rng.integers(1, 14))))


def vocabulary() -> list[str]:
    """Every phrase of the language, so that their tokens can be collected."""
    colours = "red blue green yellow purple orange"
    looks = "black brown blond red hair haired pale tan dark skin skinned bearded and with , . : - a the person human"
    species = " ".join(mascot.species for mascot in MASCOTS.values())
    single = (colours, looks, species, "the mascot", *cast_names(), *STRANGER_FIRST, *STRANGER_LAST, *KINDS[1:])
    tables = (PLACES, THINGS_OF, GLASSES, BEARD, CLAUSES)
    groups = [OPENINGS, THING_OPENINGS, FILLERS, PEOPLE_OF, PEOPLE_WORDS, *(v for t in tables for v in t.values())]
    return [*single, *(phrase for group in groups for phrase in group)]
