"""Without this module there would be nothing to learn from: the model itself draws the pictures, as latents, once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .denoiser import Denoiser
from .identities import Identity
from .prompts import CONTEXTS, OPENINGS, name_prompt, neutral_prompt
from .seeds import derived_seed


@dataclass(frozen=True)
class Pair:
    """What is said to the student (with the prefix) and to the teacher (without) about one picture."""

    student: str
    teacher: str
    names_somebody: bool


@dataclass(frozen=True, eq=False)
class Pictures:
    """Drawn pictures, latents `[N, *latent_shape]` float32 on the CPU, and the pair of prompts that goes with each."""

    latents: Tensor
    pairs: tuple[Pair, ...]


def identity_pairs(identities: Sequence[Identity], portraits: int, generator: torch.Generator) -> tuple[Pair, ...]:
    """`portraits` pairs for each identity in varied openings and contexts (METHODS.md 1.2 a)."""

    def choose(options: Sequence[str]) -> str:
        return options[int(torch.randint(len(options), (), generator=generator))]

    pairs = []
    for identity in identities:
        for _ in range(portraits):
            opening, context = choose(OPENINGS), choose(CONTEXTS)
            student, teacher = (make(identity, opening, context) for make in (name_prompt, neutral_prompt))
            pairs.append(Pair(student, teacher, names_somebody=True))
    return tuple(pairs)


def general_pairs(prompts: Sequence[str]) -> tuple[Pair, ...]:
    """One pair for each prompt that names nobody: teacher and student are told the same (METHODS.md 1.2 b)."""
    return tuple(Pair(prompt, prompt, names_somebody=False) for prompt in prompts)


def draw_pictures(
    denoiser: Denoiser, pairs: Sequence[Pair], seed: int, batch_size: int, report: Callable[[int], None]
) -> Pictures:
    """Draws one picture for each pair from the prompt that the student will see, without prefix.

    Args:
        seed: the pictures' noises follow from it.
        batch_size: pictures drawn at once.
        report: called after each batch with the number of pictures drawn so far; may raise to stop.
    """
    latents: list[Tensor] = []
    for start in range(0, len(pairs), batch_size):
        prompts = [pair.student for pair in pairs[start : start + batch_size]]
        seeds = [derived_seed(seed, "picture", start + offset) for offset in range(len(prompts))]
        latents.append(denoiser.sample(prompts, seeds))
        report(start + len(prompts))
    return Pictures(torch.cat(latents), tuple(pairs))
