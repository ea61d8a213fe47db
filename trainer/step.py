"""Makes one step of the optimizer, in micro-batches, and judges its loss."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from ..engines.denoiser import Denoiser, Vectors
from ..engines.gradient_flow import gradient_through
from ..engines.micro_batches import MicroBatches
from ..engines.vectors import learned
from ..prefix.meta_network import with_open_gates
from ..prefix.name_words import with_names_unseen
from ..runs.seeds import rate_factor
from .data.targets import Batch
from .objective import distances
from .parallel.team import ALONE, Team
from .settings import TrainingSettings
from .stages.hardening import Attackers, with_moved
from .state import Losses, RunState

MOST_SKIPPED = 8
"""A run ends when so many steps in a row had to be skipped."""

GROWTH_STEPS, LARGEST_SCALE = 100, 2.0**24
"""Steps in a row without an overflow after which the multiplier of the loss doubles, and the largest that it becomes:
small gradients of half precision would vanish otherwise."""

RECOVERY = 50
"""Steps after which a learning rate that was lowered for skipped ones doubles again."""

WINDOW = 50
"""Losses of single steps jump, with the noise and the prompts: they are compared as means over so many steps."""

RISE = 1.5
"""A mean loss this many times the lowest one before has risen."""

PATIENCE = 4
"""Windows that may pass without any fall of the mean loss."""


def make_step(
    denoiser: Denoiser,
    state: RunState,
    batch: Batch,
    settings: TrainingSettings,
    micro_batches: MicroBatches,
    team: Team = ALONE,
    attackers: Attackers | None = None,
) -> None:
    """One step on one batch, whose gradient is summed over micro-batches, and over the batches of all of a team.

    Where there are attackers, some of the names are read behind an embedding of theirs.

    The loss is multiplied before the backward pass, and the gradient divided after it, by a power of two: exact in
    float32, and in half precision what keeps gradients from vanishing. A loss or a gradient that is not finite leaves
    vectors and optimizer as they are, and lowers the rate (a gradient alone: the multiplier).
    """
    for group in state.optimizer.param_groups:
        group["lr"] = group["peak"] * rate_factor(state.step, settings.steps, settings.warmup) * state.rate
    vectors = learned(state.vectors)
    (whole,) = team.summed([torch.tensor(float(len(batch.prompts)))])
    named = batch.names_somebody.nonzero().flatten().tolist()
    behind: set[int] = set()
    embedding: Vectors | None = None
    if attackers is not None:
        names = [(batch.prompts[index], batch.layers[index]) for index in named]
        embedding = attackers.moved(state.embeddings, state.vectors, names, state.step, micro_batches, team)
        behind = set(named[: round(settings.harden * len(named))])

    def micro_batch_of(indices: Sequence[int]) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        part = batch.part(indices)
        conditioning = _encoded(denoiser, state, part, embedding, [index in behind for index in indices])
        student = denoiser.predict(part.noised, part.t, conditioning)
        losses = distances(student, part.predictions.to(student.device))
        weights = torch.where(part.names_somebody, 1.0, settings.general_weight).to(losses)
        scaled = (losses * weights).sum() * (state.loss_scale / float(whole))
        with gradient_through("text encoder or the denoiser"):
            return losses.detach().cpu(), torch.autograd.grad(scaled, vectors)

    halved = micro_batches.halved
    parts = micro_batches.work(micro_batch_of, range(len(batch.prompts)))
    if micro_batches.halved > halved:
        state.note(
            f"Memory ran out at step {state.step + 1}: from there on each step took its batch in parts of"
            f" {micro_batches.size}. The prefix is the same, learning is a little slower."
        )
    state.micro_batch = micro_batches.size
    by_picture = torch.cat([torch.zeros(0), *(losses for losses, _ in parts)])
    own = [sum((part[index] for _, part in parts), torch.zeros_like(vector)) for index, vector in enumerate(vectors)]
    kinds = [batch.names_somebody, ~batch.names_somebody]
    sums = torch.stack([by_picture[kind].double().sum() for kind in kinds])
    counts = torch.stack([kind.double().sum() for kind in kinds])
    sums, counts, *scaled = team.summed([sums, counts, *own])
    gradients = [gradient / state.loss_scale for gradient in scaled]
    finite_loss = bool(torch.isfinite(sums).all())
    finite = finite_loss and all(bool(torch.isfinite(gradient).all()) for gradient in gradients)
    # From here on nothing breaks a step off: what is saved of one that was is what it began with.
    if embedding is not None:
        state.embeddings = with_moved(state.embeddings, state.step, embedding)
    if finite:
        for vector, gradient in zip(vectors, gradients, strict=True):
            vector.grad = gradient.to(vector)
        state.optimizer.step()
        state.optimizer.zero_grad(set_to_none=True)
        state.history.append(Losses(*(sums / counts).tolist()))
        state.skipped_in_a_row = 0
        unbroken = state.history[-GROWTH_STEPS:]
        if len(state.history) % GROWTH_STEPS == 0 and not any(map(_is_skipped, unbroken)):
            state.loss_scale = min(2 * state.loss_scale, LARGEST_SCALE)
    else:
        state.history.append(Losses(math.nan, math.nan))
        state.skipped += 1
        state.skipped_in_a_row += 1
        if finite_loss and state.loss_scale > 1:
            state.loss_scale /= 16
        else:
            state.rate /= 2
    state.step += 1
    _watch(state)


def _encoded(
    denoiser: Denoiser, state: RunState, part: Batch, embedding: Vectors | None, is_behind: Sequence[bool]
) -> list[Any]:
    """What the encoders say of a batch's prompts, some of them behind an embedding.

    Of prompts that name nobody all words are read: what the gate takes for a name must be left alone if it is none.
    """
    opened = with_open_gates(state.vectors)
    kinds: dict[tuple[bool, bool], list[int]] = {}
    for index, (names, behind) in enumerate(zip(part.names_somebody.tolist(), is_behind, strict=True)):
        kinds.setdefault((names, behind and embedding is not None), []).append(index)
    said: dict[int, Any] = {}
    for (names, behind), mine in kinds.items():
        prompts, layers = [part.prompts[index] for index in mine], [part.layers[index] for index in mine]
        more = (embedding,) if behind else ()
        read = denoiser.encode(prompts, opened if names else with_names_unseen(opened), layers, *more)
        said.update(zip(mine, read, strict=True))
    return [said[index] for index in range(len(is_behind))]


def _watch(state: RunState) -> None:
    """Lowers the rate where losses rise or do not fall; raises it again long after a skipped step."""
    if state.step % WINDOW:
        return
    means = [_mean(state.history[start : start + WINDOW]) for start in range(0, state.step, WINDOW)]
    recent = state.history[-RECOVERY:]
    if not any(_is_skipped(losses) for losses in recent) and state.rate < 1 and state.skipped:
        state.rate = min(1.0, state.rate * 2)
    finite = [mean for mean in means if math.isfinite(mean)]
    if len(finite) < 2:
        return
    if finite[-1] > RISE * min(finite[:-1]):
        state.rate /= 2
        state.note(f"The loss rose before step {state.step}: the learning rate was halved.")
    elif len(finite) > PATIENCE and finite.index(min(finite)) == 0 and len(finite) % PATIENCE == 1:
        state.rate /= 2
        state.note(f"The loss had not fallen by step {state.step}: the learning rate was halved.")


def _is_skipped(losses: Losses) -> bool:
    return all(math.isnan(loss) for loss in losses)


def _mean(history: Sequence[Losses]) -> float:
    values = [loss for losses in history for loss in losses if not math.isnan(loss)]
    return sum(values) / len(values) if values else math.nan
