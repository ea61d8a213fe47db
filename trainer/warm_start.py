"""Without this module the denoiser would have to teach what the text encoder knows: it moves the vectors there first.

Most of what a prefix must do can be learned in the text encoder's own space, before any denoiser runs: what a prompt
that names somebody says with the prefix is to be what its neutral twin says, and prompts that name nobody are to say
what they said. Prompts of different words can be compared where a CLIP reads the padding after them: at the same
positions, and every state there has read the whole prompt. Where both end in the same words, those are compared too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .data import Pair
from .denoiser import Denoiser, TextStates, Vectors
from .objective import beyond
from .portions import Portions
from .schedule import rate_factor
from .seeds import generator as seeded
from .settings import TrainingSettings
from .team import ALONE, Team, share

PAIRS_OF_A_KIND = 12
"""Pairs that name somebody, and as many others, in a step."""

RATE = 0.67
"""Peak learning rate, as a multiple of the spread of the vectors that it starts from: encoders differ in scale."""

WARM_UP = 0.05

PROMPTS_KEPT = 512
"""Prompts whose plain states are remembered: some 300 MB for SDXL."""

SHARED_WEIGHT = 0.5
"""Of words that both prompts end in, against the padding after them."""

GENERAL_WEIGHT = 2.0
"""Of prompts that name nobody, against those that do."""


def warm_start(
    denoiser: Denoiser,
    vectors: Vectors,
    pairs: Sequence[Pair],
    settings: TrainingSettings,
    portions: Portions,
    report: Callable[[int], None] = lambda step: None,
    team: Team = ALONE,
) -> bool:
    """Moves the vectors `settings.text_steps` steps in place; inside `Denoiser.gradients` only.

    Args:
        pairs: what the prefix is learned on, of both kinds.
        portions: how many prompts are encoded at once.
        report: called after every step with the number of steps made; may raise to break off.
        team: among whom a step's pairs are dealt out.

    Returns:
        Whether it did. Text encoders other than CLIPs cannot be compared so: there the vectors stay as they are.
    """
    kinds = [[pair for pair in pairs if pair.names_somebody is kind] for kind in (True, False)]
    if not settings.text_steps or not all(kinds) or denoiser.text_states([pairs[0].teacher]) is None:
        return False
    plain = PlainStates(denoiser)
    parameters = tuple(vectors.values())
    rates = [RATE * float(vector.detach().std()) for vector in parameters]
    optimizer = torch.optim.Adam([{"params": [vector]} for vector in parameters])
    for step in range(settings.text_steps):
        choices = seeded(settings.seed, "warm start", step)
        chosen = [
            kind[index]
            for kind in kinds
            for index in torch.randint(len(kind), (PAIRS_OF_A_KIND,), generator=choices).tolist()
        ]

        def gradient_of(part: Sequence[Pair], count: int = len(chosen)) -> tuple[Tensor, ...] | None:
            loss = _loss(denoiser, vectors, part, plain, settings.overshoot)
            return None if loss is None else torch.autograd.grad(loss / count, parameters)

        gradients = [gradient for gradient in portions.work(gradient_of, share(team, chosen)) if gradient is not None]
        own = [sum(of_vector) for of_vector in zip(*gradients, strict=True)] or list(map(torch.zeros_like, parameters))
        *summed, compared = team.summed([*own, torch.tensor(float(len(gradients)))])
        if compared and all(bool(torch.isfinite(gradient).all()) for gradient in summed):
            for group, vector, rate, gradient in zip(optimizer.param_groups, parameters, rates, summed, strict=True):
                group["lr"] = rate * rate_factor(step, settings.text_steps, WARM_UP)
                vector.grad = gradient.to(vector)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        report(step + 1)
    return True


class PlainStates:
    """What prompts say without the prefix: each is encoded once, as long as there is room to remember it."""

    def __init__(self, denoiser: Denoiser) -> None:
        self._denoiser = denoiser
        self._known: dict[str, TextStates | None] = {}

    @torch.no_grad()
    def of(self, prompts: Sequence[str]) -> list[TextStates | None]:
        """The states of each prompt."""
        unknown = [prompt for prompt in dict.fromkeys(prompts) if prompt not in self._known]
        fresh = dict(zip(unknown, self._denoiser.text_states(unknown), strict=True)) if unknown else {}
        found = [self._known[prompt] if prompt in self._known else fresh[prompt] for prompt in prompts]
        room = max(0, PROMPTS_KEPT - len(self._known))
        self._known |= {prompt: fresh[prompt] for prompt in unknown[:room]}
        return found


def text_distance(student: TextStates, goal: Tensor, teacher: TextStates) -> Tensor:
    """How far what a student's prompt says is from the goal, for the padding and for words that both prompts end in.

    Args:
        student: the prompt's states with the prefix, `[length, d]`.
        goal: what the states after the end of both prompts are to be, `[length, d]`; rows before that are not read.
        teacher: the states of the teacher's prompt.
    """
    stop = max(student.stop, teacher.stop)
    distance = (student.states[stop:].float() - goal[stop:].float()).square().mean()
    shared = _shared_words(student.words, teacher.words)
    if shared:
        ours, theirs = (side.states[side.stop - shared : side.stop].float() for side in (student, teacher))
        distance = distance + SHARED_WEIGHT * (ours - theirs).square().mean()
    return distance


def _loss(
    denoiser: Denoiser, vectors: Vectors, pairs: Sequence[Pair], plain: PlainStates, overshoot: float
) -> Tensor | None:
    """The summed loss of some pairs; None if none of them can be compared."""
    teachers = plain.of([pair.teacher for pair in pairs])
    names = plain.of([pair.student for pair in pairs])
    students = denoiser.text_states([pair.student for pair in pairs], vectors)
    losses = []
    for pair, student, teacher, named in zip(pairs, students, teachers, names, strict=True):
        if student is None or teacher is None or named is None:
            continue
        goal = beyond(teacher.states, named.states, overshoot) if pair.names_somebody else teacher.states
        weight = 1.0 if pair.names_somebody else GENERAL_WEIGHT
        losses.append(weight * text_distance(student, goal, teacher))
    return torch.stack(losses).sum() if losses else None


def _shared_words(one: Sequence[int], other: Sequence[int]) -> int:
    """How many words both end in."""
    count = 0
    for ours, theirs in zip(reversed(one), reversed(other), strict=False):
        if ours != theirs:
            break
        count += 1
    return count
