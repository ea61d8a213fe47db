"""Varies how prompts name people, so that a prefix holds for other spellings too.

Erasures often hold for the literal name alone (docs/METHODS.md 1.7). So some of the prompts that name people do it in
other ways, and their neutral twins with them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from .identities import Identity

SHARE = 0.35
"""Of the prompts that name somebody, how many are varied."""

COMPANY = 0.3
"""Of the prompts that name somebody, how many say something else as well that by itself would stay as it is.

What general prompts say is learned to be left alone. Where it never stood beside a name, a prefix left names alone too
that stood beside it: on the demo model "by a lake at night, a portrait of …" was read as without a prefix.
"""

BESIDE = ("{other}, {prompt}", "{prompt}, {other}", "{prompt} and {other}")
"""Places for something else."""

MOST_LETTERS = 80
"""Of what is said beside a name: longer ones would fill a chunk of a CLIP."""

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


def in_company(prompts: Sequence[str], others: Sequence[str], choose: Choose) -> tuple[str, ...]:
    """The same prompt about each subject, with one of some others beside it; as they are if none is short enough.

    Args:
        others: prompts that name nobody.
    """
    short = [other for other in others if 0 < len(other) <= MOST_LETTERS]
    if not short:
        return tuple(prompts)
    beside, other = BESIDE[choose(len(BESIDE))], short[choose(len(short))]
    return tuple(beside.format(prompt=prompt, other=other) for prompt in prompts)
