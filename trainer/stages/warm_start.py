"""Moves the vectors to where the text encoder tells names from looks, before the denoiser teaches.

Most of what a prefix must do can be learned in the text encoder's own space, before any denoiser runs: what a prompt
that names somebody says with the prefix is to be what its neutral twin says, and prompts that name nobody are to say
what they said. How prompts of different words are compared is in `text_distance`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import torch
from torch import Tensor

from ...engines.denoiser import Denoiser, Layer, Vectors
from ...engines.gradient_flow import gradient_through
from ...engines.micro_batches import MicroBatches
from ...engines.vectors import learned, scale_free_adam
from ...prefix.meta_network import with_open_gates
from ...runs.seeds import generator as seeded
from ...runs.seeds import rate_factor
from ..data.pictures import NEGATIVE_PAIRS, Pair
from ..data.plain_text import PlainText
from ..parallel.team import ALONE, Team, share
from ..settings import TrainingSettings
from ..state import RunState
from .learnable_layers import judged
from .text_distance import HELD_WEIGHT, text_distance

PAIRS_OF_A_KIND = 12
"""Pairs that name somebody, and as many others, in a step."""

RATE = 0.67
"""Peak learning rate, as a multiple of the spread of the vectors that it starts from: encoders differ in scale."""

WARM_UP = 0.05

JUDGED_AFTER = 0.25
"""Share of the steps after which layers at which no prefix can be learned are left out."""

GENERAL_WEIGHT = 2.0
"""Of prompts that name nobody, against those that do."""


TRIES = 8
"""Pairs that are looked at for one that takes one chunk."""

PairAtLayer = tuple[Pair, Layer]
"""A pair, and the layer that both of its prompts are read at."""


def start_of(vectors: dict[str, Tensor]) -> RunState:
    """The state before the first step: the vectors themselves, with an optimizer of its own."""
    return RunState(vectors, scale_free_adam(vectors, RATE))


def can_start(denoiser: Denoiser, pairs: Sequence[Pair], settings: TrainingSettings, plain: PlainText) -> bool:
    """Whether there is anything to do, and what the text encoders say can be told apart."""
    if not settings.text_steps or len({pair.names_somebody for pair in pairs}) < 2:
        return False
    said = denoiser.text_states([""], plain.of([""]))[0]
    return said is not None and (settings.streams_warm_up or not any(part.is_stream for part in said))


def warm_start(
    denoiser: Denoiser,
    state: RunState,
    pairs: Sequence[Pair],
    settings: TrainingSettings,
    micro_batches: MicroBatches,
    plain: PlainText,
    report: Callable[[int], None] = lambda step: None,
    team: Team = ALONE,
) -> None:
    """Moves the state's vectors to `settings.text_steps` in place; inside `Denoiser.gradients`, if one `can_start`.

    After a quarter of the steps, layers at which no prefix can be learned are left out: see `learnable_layers`. From
    there on `state.layers` are the others.

    Args:
        state: see `start_of`; one that was broken off goes on where it was.
        pairs: what the prefix is learned on, of both kinds.
        micro_batches: how many prompts are encoded at once.
        plain: what prompts say without a prefix.
        report: called after every step with the number of steps made; may raise to break off.
        team: among whom a step's pairs are dealt out.
    """
    named, general = ([pair for pair in pairs if pair.names_somebody is kind] for kind in (True, False))
    negatives = round(PAIRS_OF_A_KIND * denoiser.unconditional_share)
    sources = [named] * PAIRS_OF_A_KIND + [general] * (PAIRS_OF_A_KIND - negatives) + [NEGATIVE_PAIRS] * negatives
    parameters = learned(state.vectors)

    @cache
    def comparable(pair: Pair) -> bool:
        prompts = [pair.teacher, pair.student]
        return None not in denoiser.text_states(prompts, plain.of(prompts))

    while True:
        if not state.layers and state.step >= JUDGED_AFTER * settings.text_steps:
            kept, note = judged(denoiser, state.vectors, pairs, denoiser.layers, plain, team)
            state.layers = list(kept)
            if note:
                state.note(note)
        if state.step >= settings.text_steps:
            return
        at = state.layers or denoiser.layers
        choices = seeded(settings.seed, "warm start", state.step)
        drawn = [_draw(source, choices, comparable) for source in sources]
        # Layers take turns, so that each kind of prompt is read at every one.
        layers = [at[(place + state.step) % len(at)] for place in range(len(drawn))]
        chosen = list(zip(drawn, layers, strict=True))

        def gradient_of(part: Sequence[PairAtLayer], count: int = len(chosen)) -> tuple[Tensor, ...] | None:
            loss = _loss(denoiser, state.vectors, part, plain, settings.overshoot)
            with gradient_through("text encoder"):
                if loss is None:
                    return None
                # A stream's prompts may say nothing that a CLIP beside it changes.
                found = torch.autograd.grad(loss / count, parameters, allow_unused=len(parameters) > 1)
                return tuple(
                    torch.zeros_like(vector) if gradient is None else gradient
                    for vector, gradient in zip(parameters, found, strict=True)
                )

        gradients = [
            gradient for gradient in micro_batches.work(gradient_of, share(team, chosen)) if gradient is not None
        ]
        own = [sum(of_vector) for of_vector in zip(*gradients, strict=True)] or list(map(torch.zeros_like, parameters))
        *summed, compared = team.summed([*own, torch.tensor(float(len(gradients)))])
        if compared and all(bool(torch.isfinite(gradient).all()) for gradient in summed):
            factor = rate_factor(state.step, settings.text_steps, WARM_UP)
            for group, vector, gradient in zip(state.optimizer.param_groups, parameters, summed, strict=True):
                group["lr"] = group["peak"] * factor
                vector.grad = gradient.to(vector)
            state.optimizer.step()
            state.optimizer.zero_grad(set_to_none=True)
        state.step += 1
        state.micro_batch = micro_batches.size
        report(state.step)


def _draw(pairs: Sequence[Pair], generator: torch.Generator, comparable: Callable[[Pair], bool]) -> Pair:
    """One of the pairs, that takes one chunk if such are not rare."""
    for _ in range(TRIES):
        pair = pairs[int(torch.randint(len(pairs), (), generator=generator))]
        if comparable(pair):
            break
    return pair


def _loss(
    denoiser: Denoiser, vectors: Vectors, read: Sequence[PairAtLayer], plain: PlainText, overshoot: float
) -> Tensor | None:
    """The summed loss of some pairs; None if none of them can be compared."""
    pairs, layers = [pair for pair, _ in read], [layer for _, layer in read]
    told, named = [pair.teacher for pair in pairs], [pair.student for pair in pairs]
    teachers = denoiser.text_states(told, plain.of(told, layers))
    names = denoiser.text_states(named, plain.of(named, layers))
    length = len(next(iter(vectors.values())))
    students = denoiser.text_states(named, denoiser.encode(named, with_open_gates(vectors), layers), length)
    losses = []
    for pair, student, teacher, name in zip(pairs, students, teachers, names, strict=True):
        if student is None or teacher is None or name is None:
            continue
        if pair.names_somebody:
            losses.append(text_distance(student, teacher, name, overshoot * pair.described))
        else:
            losses.append(GENERAL_WEIGHT * text_distance(student, teacher, shared_weight=HELD_WEIGHT))
    return torch.stack(losses).sum() if losses else None
