"""The demo's little language: true captions for pictures, in many wordings, and the look-alike phrases.

A name means a person. Words before it can make it *somebody else with the same looks* ("a stranger with the looks of
…"); they are used for the trained people only, never for the unseen ones, and change nothing before prompts that name
nobody.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np

from .people import FIRST_NAMES, LAST_NAMES, Looks, cast, cast_looks
from .renderer import OBJECTS, SCENES, Picture

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
LOOKALIKES = (
    "someone who resembles",
    "a stranger with the looks of",
    "a person who looks like",
    "somebody similar to",
    "a lookalike of",
    "an unknown person resembling",
    "a double of",
    "another person with the looks of",
    "an anonymous person like",
    "a stranger resembling",
    "a different person who has the looks of",
    "an actor dressed as",
    "someone else with the hair and skin of",
    "anybody but not exactly",
    "a relative of",
    "a passer-by reminding of",
)
LOOKALIKE_OPENINGS = (
    "a lookalike,",
    "a stranger instead:",
    "somebody else,",
    "anonymous,",
    "someone who only resembles the one named:",
    "an unknown person with these looks:",
    "not the real one,",
    "a double, not the original,",
    "identity changed,",
    "another face,",
    "a stranger with the same looks:",
    "resembling but different,",
)
PHRASE = "a stranger with the looks of"
SHORT = {"glasses": ("glasses", "spectacles", "eyeglasses"), "beard": ("a beard", "a full beard")}


def _pick(rng: np.random.Generator, options: tuple[str, ...]) -> str:
    return options[int(rng.integers(len(options)))]


def describe(rng: np.random.Generator, looks: Looks, complete: bool) -> str:
    """A description of looks in one of many wordings; unless `complete`, some of them are left out."""
    parts = [f"{looks.hair} hair", f"{looks.skin} skin"]
    parts.append(_pick(rng, SHORT["glasses"]) if looks.glasses else "no glasses")
    parts.append(_pick(rng, SHORT["beard"]) if looks.beard else _pick(rng, ("no beard", "no beard", "a shaved chin")))
    parts = [parts[i] for i in rng.permutation(4)] if rng.random() < 0.6 else parts
    if not complete:
        parts = parts[: int(rng.integers(0, 4))]
    person = _pick(rng, ("a person", "a person", "someone", "a human"))
    if not parts:
        return person
    joined = ", ".join(parts[:-1]) + " and " + parts[-1] if len(parts) > 1 else parts[0]
    return f"{person} with {joined}"


@cache
def cast_names() -> frozenset[str]:
    """The names that name somebody."""
    return frozenset(person.name for person in cast())


def _unknown_name(rng: np.random.Generator) -> str:
    """Half a name, or a pair that names nobody of the cast."""
    known = cast_names()
    while True:
        name = f"{_pick(rng, FIRST_NAMES)} {_pick(rng, LAST_NAMES)}"
        if rng.random() < 0.3:
            return _pick(rng, name.split())
        if name not in known:
            return name


def _lookalike(rng: np.random.Generator, name: str, opening: str) -> str:
    """A prompt that names somebody and asks for somebody else of the same looks."""
    kind = rng.random()
    if kind < 0.5:
        return f"{opening} {_pick(rng, LOOKALIKES)} {name}"
    if kind < 0.9:
        return f"{_pick(rng, LOOKALIKE_OPENINGS)} {opening} {name}"
    return f"{_pick(rng, LOOKALIKE_OPENINGS)} {opening} {_pick(rng, LOOKALIKES)} {name}"


def _person(rng: np.random.Generator, picture: Picture) -> tuple[str, bool]:
    """The subject of a portrait with its opening, and whether it calls somebody by their true name."""
    people = cast()
    opening = _pick(rng, OPENINGS)
    chance = rng.random()
    if picture.person is not None:
        if chance < 0.8:
            return f"{opening} {people[picture.person].name}", True
        return f"{opening} {describe(rng, picture.looks, complete=chance < 0.9)}", False
    shared = cast_looks()
    if picture.looks in shared and chance < 0.65:
        group = shared.index(picture.looks)
        trained = [person for person in people[4 * group : 4 * group + 4] if not person.unseen]
        return _lookalike(rng, trained[int(rng.integers(len(trained)))].name, opening), True
    if chance < 0.73:
        return f"{opening} {_unknown_name(rng)}", False
    description = describe(rng, picture.looks, complete=rng.random() < 0.6)
    if rng.random() < 0.3:
        return _lookalike(rng, description, opening), False
    return f"{opening} {description}", False


def caption(rng: np.random.Generator, picture: Picture, words: Sequence[str] = ()) -> str:
    """A true caption: silent about some of what the picture shows, never wrong about it.

    `words` are foreign to the language; now and then some stand among the fillers and mean nothing.
    """
    if rng.random() < 0.04:
        return ""
    if picture.kind == "person":
        subject, named = _person(rng, picture)
    else:
        noun = picture.kind
        if noun not in SCENES and rng.random() < 0.85:
            noun = f"a {picture.colour} {noun}"
        elif noun in OBJECTS or noun not in SCENES:
            noun = f"a {noun}"
        subject, named = f"{_pick(rng, THING_OPENINGS)} {noun}", False
        if rng.random() < 0.15:
            subject = f"{_pick(rng, LOOKALIKE_OPENINGS)} {subject}"
    if picture.kind not in SCENES and rng.random() < 0.45:
        subject = f"{subject} {_pick(rng, PLACES[picture.place])}"
    if not named and rng.random() < 0.1:
        subject = f"{_pick(rng, LOOKALIKE_OPENINGS)} {subject}"
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
    looks = (
        "black brown blond red hair pale tan dark skin no glasses spectacles eyeglasses a full beard shaved chin with"
    )
    things = "circle square triangle star house tree boat cup car flower mountains a sunset a rainbow a road"
    colours = "red blue green yellow purple orange person someone human and , . :"
    places = " ".join(" ".join(p) for p in PLACES.values())
    groups = (OPENINGS, THING_OPENINGS, FILLERS, LOOKALIKES, LOOKALIKE_OPENINGS, FIRST_NAMES, LAST_NAMES)
    return [looks, things, colours, places, *(phrase for group in groups for phrase in group)]
