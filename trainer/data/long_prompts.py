"""Writes prompts of several chunks: a subject among many words of style, in the first chunk or in a later one.

A CLIP reads a prompt in chunks of 75 tokens, each with the prefix in front, also where a chunk holds words of style
alone. What the prefix makes of such chunks has to be learned like everything else: see docs/layers-and-long-prompts.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

EVERY = 4
"""One in so many portraits is of a long prompt, and for so many general prompts there is a long one."""

STYLES = (
    "volumetric light",
    "shallow depth of field",
    "film grain",
    "85mm lens",
    "muted tones",
    "intricate textures",
    "dramatic shadows",
    "golden hour",
    "rim lighting",
    "high resolution",
    "rule of thirds",
    "creamy bokeh",
    "hyperrealistic rendering",
    "soft focus backdrop",
    "matte finish",
    "editorial photograph",
    "subtle colour grading",
    "professional retouching",
    "balanced composition",
    "ambient occlusion",
    "global illumination",
    "motion blur",
    "low angle view",
    "warm palette",
    "pastel shades",
    "high contrast",
    "overcast weather",
    "morning haze",
    "textured paper",
    "visible brush strokes",
    "vintage print",
    "symmetrical framing",
    "floating dust particles",
    "polished surfaces",
    "gentle gradients",
    "crisp edges",
    "elegant atmosphere",
    "dynamic range",
    "painterly details",
    "medium format camera",
    "lens flare",
    "long exposure",
    "diffuse glow",
    "restrained saturation",
    "layered depth",
    "ornate patterns",
    "fine grain",
    "natural pose",
)
"""What artists write beside a subject: it says how, not who or what."""

A_CHUNK = 18
"""Of these, about as many as fill a chunk of a CLIP that carries a prefix."""

PLACES = ((0, 1), (1, 0), (0, 2), (1, 1), (2, 0))
"""Whole chunks of words before and after the subject."""

MOST_IN_ONE = 12
"""Of these, as many as leave room in a chunk for a subject and a prefix."""

Choose = Callable[[int], int]
"""Draws a number below the one given."""


def long_prompts(subjects: Sequence[str], choose: Choose) -> tuple[str, ...]:
    """The same prompt of two or three chunks about each subject."""
    before, after = (A_CHUNK * chunks + choose(A_CHUNK // 2) for chunks in PLACES[choose(len(PLACES))])
    return _styled(subjects, before, after, choose)


def chunk_prompts(subjects: Sequence[str], choose: Choose) -> tuple[str, ...]:
    """The same prompt of one chunk about each subject."""
    count = 1 + choose(MOST_IN_ONE)
    before = choose(count + 1)
    return _styled(subjects, before, count - before, choose)


def long_general_prompts(prompts: Sequence[str], choose: Choose) -> tuple[str, ...]:
    """Long prompts about every so many of the general prompts; as many of them are of nothing but style."""
    subjects = [
        "" if number % EVERY == EVERY - 1 else prompt for number, prompt in enumerate(prompts[EVERY - 1 :: EVERY])
    ]
    return tuple(long_prompts([subject], choose)[0] for subject in subjects)


def choosing(generator: torch.Generator) -> Choose:
    """Draws numbers with a generator."""
    return lambda below: int(torch.randint(below, (), generator=generator))


def _styled(subjects: Sequence[str], before: int, after: int, choose: Choose) -> tuple[str, ...]:
    first, second = ([STYLES[choose(len(STYLES))] for _ in range(count)] for count in (before, after))
    return tuple(", ".join(filter(None, [*first, subject, *second])) for subject in subjects)
