"""Varies how prompts name people, so that a prefix holds for other spellings too.

Erasures often hold for the literal name alone (docs/METHODS.md 1.7). So some of the prompts that name people do it in
other ways, and their neutral twins with them.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from .identities import Identity

SHARE = 0.35
"""Of the prompts that name somebody, how many are varied."""

QUALITY = "highly detailed, sharp focus, soft light, cinematic, best quality, award winning, 35mm photograph"
LONG = ", ".join([QUALITY] * 5)
"""More than a chunk of a CLIP: what follows falls into a later one."""

Choose = Callable[[int], int]
"""Draws a number below the one given."""


def misspelt(name: str, choose: Choose) -> str:
    """The name with two neighbouring letters in each other's place, never the first of a word."""
    places = [
        index
        for index in range(1, len(name) - 1)
        if name[index - 1 : index + 2].isalpha() and name[index] != name[index + 1]
    ]
    if not places:
        return name
    at = places[choose(len(places))]
    return name[:at] + name[at + 1] + name[at] + name[at + 2 :]


NAMES: tuple[Callable[[str, Choose], str], ...] = (
    lambda name, choose: name.upper(),
    lambda name, choose: name.lower(),
    misspelt,
    lambda name, choose: name.split()[-1],
)
"""Other ways to write a name."""

PROMPTS = (
    "{opening}({subject}:1.3) {context}",
    "{opening}((({subject}))) {context}",
    "{subject}, {context}, {opening}somebody",
    "{context}, {opening}{subject}",
    "{quality}, {opening}{subject} {context}",
    "{long}, {opening}{subject} {context}",
    "not a stranger, {opening}{subject} {context}",
    "{subject}, really {subject}, {opening}{subject}",
    "this is the face of {subject} {context}",
)
"""Other ways to say it: emphasis, position, long prompts, negation, insistence."""


def varied_prompts(identity: Identity, opening: str, context: str, generator: torch.Generator) -> tuple[str, str]:
    """A prompt that names the person in another way, and its neutral twin."""

    def choose(below: int) -> int:
        return int(torch.randint(below, (), generator=generator))

    way = choose(len(NAMES) + len(PROMPTS))
    if way < len(NAMES):
        name, prompt = NAMES[way](identity.name, choose), "{opening}{subject} {context}"
    else:
        name, prompt = identity.name, PROMPTS[way - len(NAMES)]
    student, teacher = (
        prompt.format(subject=subject, opening=opening, context=context, quality=QUALITY, long=LONG).strip(" ,")
        for subject in (name, identity.description)
    )
    return student, teacher
