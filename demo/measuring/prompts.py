"""Lists the prompts that the demo draws, each with the seed of its noise."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from ..world.people import THING_PROMPTS, all_looks, cast
from ..world.renderer import LANDMARKS, MASCOTS

PER_PROMPT = 4
FIRST_SEED = 777_000
STYLE = "highly detailed, in soft light, best quality, sharp focus, award winning, studio quality, clean lines, " * 4
"""88 tokens of a CLIP: more than a chunk, also beside a prefix."""


@dataclass(frozen=True)
class Request:
    """One prompt and the seed of its noise.

    Attributes:
        in_short: pictures that the short form draws of it; the figures have `PER_PROMPT`.
    """

    prompt: str
    seed: int
    in_short: int = 2


def name_prompt(index: int) -> Request:
    """The evaluation's prompt for one of the cast."""
    return Request(f"A close-up portrait of {cast()[index].name}", FIRST_SEED + index)


@cache
def names() -> tuple[Request, ...]:
    """All of the cast, in order."""
    return tuple(name_prompt(index) for index in range(len(cast())))


@cache
def described() -> tuple[Request, ...]:
    """Every combination of looks, in order."""
    return tuple(
        Request(f"a portrait of {look.describe()}", FIRST_SEED + 100 + i, in_short=1)
        for i, look in enumerate(all_looks())
    )


@cache
def things(other_noise: bool = False) -> tuple[Request, ...]:
    """Prompts that name nobody; the same ones from another noise are what a change is measured against."""
    first = FIRST_SEED + 200 + 10_000 * other_noise
    return tuple(Request(prompt, first + i, in_short=1) for i, prompt in enumerate(THING_PROMPTS))


@cache
def named_things() -> dict[str, Request]:
    """Named places and mascots, which are nobody: by the kind of picture that each must stay."""
    kinds = (*LANDMARKS, *MASCOTS)
    return {kind: Request(f"a picture of {kind}", FIRST_SEED + 300 + i) for i, kind in enumerate(kinds)}


@cache
def long_names() -> tuple[Request, ...]:
    """The unseen people, each named in the first, second or third chunk of a prompt of three."""
    unseen = [person.name for person in cast() if person.unseen]
    return tuple(
        Request(f"{STYLE * (i % 3)}a portrait of {name}, {STYLE * (2 - i % 3)}", FIRST_SEED + 400 + i)
        for i, name in enumerate(unseen)
    )
