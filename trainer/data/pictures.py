"""Draws the pictures to learn from by the model itself, as latents, once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...engines.denoiser import Denoiser
from ...engines.micro_batches import MicroBatches
from ...runs.kept_latents import NONE_KEPT, KeptLatents
from ...runs.seeds import derived_seed
from ...runs.tensor_store import TensorStore
from ..parallel.shared_work import compute
from ..parallel.team import ALONE, Team
from .identities import Identity
from .long_prompts import EVERY as LONG_EVERY
from .long_prompts import choosing, chunk_prompts, long_prompts
from .prompts import CONTEXTS, NEGATIVES, OPENINGS, name_prompt, neutral_prompt
from .variations import SHARE, varied_prompts


@dataclass(frozen=True)
class Pair:
    """What is said to the student (with the prefix) and to the teacher (without) about one picture.

    Attributes:
        names_somebody: whether the student's prompt does.
        described: whether the teacher's tells their looks; "a person" tells none, and nothing lies past it.
    """

    student: str
    teacher: str
    names_somebody: bool
    described: bool = True

    @property
    def overshoots(self) -> bool:
        """Whether the goal lies past the teacher's prediction where the settings want that; see `objective.beyond`."""
        return self.names_somebody and self.described


@dataclass(frozen=True, eq=False)
class Pictures:
    """Drawn pictures, latents `[*latent_shape]` float32 on the CPU by index, and each one's pair of prompts."""

    latents: TensorStore | Tensor
    pairs: tuple[Pair, ...]


def identity_pairs(
    identities: Sequence[Identity],
    portraits: int,
    generator: torch.Generator,
    vary: bool = False,
    long_every: int = LONG_EVERY,
) -> tuple[Pair, ...]:
    """`portraits` pairs for each identity in varied openings and contexts (docs/METHODS.md 1.2 a).

    Args:
        vary: some of them name the person in other ways, see `variations`.
        long_every: one in so many is a long prompt, see `long_prompts`.
    """
    choose = choosing(generator)
    pairs: list[Pair] = []
    for identity in identities:
        for _ in range(portraits):
            opening, context = OPENINGS[choose(len(OPENINGS))], CONTEXTS[choose(len(CONTEXTS))]
            if vary and float(torch.rand((), generator=generator)) < SHARE:
                student, teacher = varied_prompts(identity, opening, context, generator)
            else:
                student, teacher = (make(identity, opening, context) for make in (name_prompt, neutral_prompt))
            if len(pairs) % long_every == long_every - 1:
                student, teacher = long_prompts((student, teacher), choose)
            pairs.append(Pair(student, teacher, True, identity.described))
    return tuple(pairs)


def general_pairs(prompts: Sequence[str]) -> tuple[Pair, ...]:
    """One pair for each prompt that names nobody: teacher and student are told the same (docs/METHODS.md 1.2 b)."""
    return tuple(Pair(prompt, prompt, names_somebody=False) for prompt in prompts)


_OF_ARTISTS = general_pairs([prompt for prompt in NEGATIVES if prompt])
NEGATIVE_PAIRS = (*general_pairs([""]) * len(_OF_ARTISTS), *_OF_ARTISTS)
"""Negative prompts as pairs, half of them the empty one. Guidance asks for one at each picture, and multiplies what a
prefix does there; see `Drawing.unconditional_share`."""


def spoken_pairs(
    identities: Sequence[Identity], prompts: Sequence[str], generator: torch.Generator
) -> tuple[Pair, ...]:
    """Pairs that are said to the text encoders alone and never drawn: a chunk of a long prompt each.

    One for each identity, one for each of the built-in general prompts, and as many of these, and of nothing, among
    words of style.
    """
    choose = choosing(generator)
    named = [
        Pair(student, teacher, True, identity.described)
        for identity in identities
        for student, teacher in [
            chunk_prompts((name_prompt(identity, "", ""), neutral_prompt(identity, "", "")), choose)
        ]
    ]
    styled = [chunk_prompts([subject], choose)[0] for prompt in prompts for subject in (prompt, "")]
    return (*named, *general_pairs([*prompts, *styled]))


def draw_pictures(
    denoiser: Denoiser,
    pairs: Sequence[Pair],
    seed: int,
    micro_batches: MicroBatches,
    latents: TensorStore,
    report: Callable[[int], None],
    team: Team = ALONE,
    wanted: Sequence[int] | None = None,
    kept: KeptLatents = NONE_KEPT,
) -> Pictures:
    """Draws one picture for each pair from the prompt that the student will see, without prefix.

    Pictures of prompts that name nobody are the same in every run on a model, and those of people are drawn apart from
    them, so that it makes no difference, not even in rounding, whether the former are drawn or were kept.

    Args:
        wanted: those that are drawn now; None for all.
        seed: the noises of people's pictures follow from it.
        micro_batches: how many are drawn at once.
        latents: where they are kept; those that are known already, from the first on, are not drawn again.
        report: called after each micro-batch with the number of pictures there are so far; may raise to stop.
        team: among whom the pictures are dealt out.
        kept: pictures of prompts that name nobody, from runs before and for later ones.
    """

    def draw(indices: Sequence[int]) -> None:
        missing = []
        for index in indices:
            latent = None if pairs[index].names_somebody else kept.get(pairs[index].student)
            if latent is None:
                missing.append(index)
            else:
                latents.put(index, latent)
        prompts = [pairs[index].student for index in missing]
        seeds = [
            derived_seed(seed, "picture", index) if pairs[index].names_somebody else derived_seed(0, f"of {prompt}")
            for index, prompt in zip(missing, prompts, strict=True)
        ]
        drawn = denoiser.sample(prompts, seeds) if missing else ()
        for index, prompt, latent in zip(missing, prompts, drawn, strict=True):
            latents.put(index, latent)
            if not pairs[index].names_somebody:
                kept.put(prompt, latent)
        if team.count == 1:
            report(len(latents.known()))

    def met(_: int) -> None:
        report(len(latents.known()))

    indices = range(len(pairs)) if wanted is None else wanted
    for kind in (True, False):
        some = [index for index in indices if pairs[index].names_somebody is kind]
        compute(team, latents, some, lambda mine: micro_batches.work(draw, mine), met)
    return Pictures(latents, tuple(pairs))
