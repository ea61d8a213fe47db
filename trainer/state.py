"""Holds all that changes from step to step, as a value that can be saved.

Whatever is random in a run follows from its seed and from the position alone (see `seeds` and `targets.deal`), so the
position stands for the states of all random generators.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..engines.denoiser import Layer
from ..engines.vectors import CLIP_SPREAD, scale_free_adam
from .settings import TrainingSettings


class Losses(NamedTuple):
    """Mean distance between student and teacher in one step, by kind of prompt; NaN where the batch had none of it."""

    identities: float
    general: float


class Score(NamedTuple):
    """How a prefix does on people and prompts that it does not learn from; see `validation`. 0 and 0 is perfect."""

    step: int
    identities: float
    general: float

    @property
    def total(self) -> float:
        """What the best snapshot is chosen by, the lower the better."""
        return self.identities + self.general


@dataclass
class RunState:
    """Where a run stands.

    Attributes:
        vectors: the parameters, see `engines.vectors`.
        optimizer: over those that are learned.
        step: steps made, skipped ones included; the position.
        history: their losses; NaN for skipped ones.
        rate: what the scheduled learning rate is multiplied with; lowered where the loss was bad.
        loss_scale: power of two that the loss is multiplied with before the backward pass; see `step`.
        micro_batch: pictures that a backward pass takes at once.
        skipped: steps skipped in all, and
        skipped_in_a_row: just now.
        scores: of the snapshots so far, in order.
        best: copies of the vectors with the lowest total score; None before the first.
        notes: what happened that the artist should hear of, sentences.
        seconds: spent learning.
        layers: those of `Denoiser.layers` that are learned at; none before that is known. See `learnable_layers`.
        embeddings: those that the prefix is learned against, see `hardening`.
    """

    vectors: dict[str, Tensor]
    optimizer: torch.optim.Optimizer
    step: int = 0
    history: list[Losses] = field(default_factory=list)
    rate: float = 1.0
    loss_scale: float = 1.0
    micro_batch: int = 1
    skipped: int = 0
    skipped_in_a_row: int = 0
    scores: list[Score] = field(default_factory=list)
    best: dict[str, Tensor] | None = None
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0
    layers: list[Layer] = field(default_factory=list)
    embeddings: dict[str, Tensor] = field(default_factory=dict)

    @property
    def best_score(self) -> Score | None:
        """The score of `best`."""
        finite = [score for score in self.scores if math.isfinite(score.total)]
        return min(finite, key=lambda score: score.total, default=None)

    def add_score(self, score: Score) -> None:
        """Adds the score of the vectors as they are; keeps them if they are the best. One for each step."""
        if self.scores and self.scores[-1].step == score.step:
            return
        self.scores.append(score)
        if self.best_score == score:
            self.best = {key: vector.detach().clone() for key, vector in self.vectors.items()}

    @property
    def sentences(self) -> tuple[str, ...]:
        """Everything of note that happened."""
        if not self.skipped:
            return tuple(self.notes)
        steps = "1 step was" if self.skipped == 1 else f"{self.skipped} steps were"
        return (*self.notes, f"{steps} skipped, because the loss or its gradient was not finite.")

    def take_over(self, warmed: RunState) -> None:
        """Takes over what the warm start found out, beside the vectors, which are the same."""
        self.layers = warmed.layers
        for sentence in warmed.notes:
            self.note(sentence)

    def note(self, sentence: str) -> None:
        """Adds a sentence for the artist, once."""
        if sentence not in self.notes:
            self.notes.append(sentence)


ELEMENTS = 4096.0
"""About as many as a small picture has: the loss is a mean over a picture's elements."""

_NUMBERS = ("step", "rate", "loss_scale", "micro_batch", "skipped", "skipped_in_a_row", "notes", "seconds", "layers")


GENTLE_RATE = 0.1
"""Share of the learning rate where what is learned begins near where it is to end: the whole rate would first carry it
away (docs/figures.md)."""


def new_state(vectors: dict[str, Tensor], settings: TrainingSettings, gently: bool = False) -> RunState:
    """The state before the first step.

    Args:
        vectors: spread like the token embeddings of their encoders.
        gently: whether they begin near where they are to end.
    """
    rate = settings.learning_rate * (GENTLE_RATE if gently else 1.0)
    optimizer = scale_free_adam(vectors, rate / CLIP_SPREAD)
    return RunState(vectors, optimizer, loss_scale=ELEMENTS, micro_batch=settings.batch_size)


def state_to_file(state: RunState) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The state as tensors and a table of JSON values."""
    tensors = {f"vectors.{key}": vector.detach() for key, vector in state.vectors.items()}
    tensors |= {f"best.{key}": vector for key, vector in (state.best or {}).items()}
    for key, vector in state.vectors.items():
        for name, value in state.optimizer.state.get(vector, {}).items():
            tensors[f"optimizer.{key}.{name}"] = value
    tensors |= {f"embeddings.{name}": rows for name, rows in state.embeddings.items()}
    tensors["history"] = torch.tensor(state.history, dtype=torch.float64).reshape(-1, 2)
    tensors["scores"] = torch.tensor(state.scores, dtype=torch.float64).reshape(-1, 3)
    return tensors, {name: getattr(state, name) for name in _NUMBERS}


def restore(state: RunState, tensors: Mapping[str, Tensor], table: Mapping[str, Any]) -> bool:
    """Makes a new state the one that `state_to_file` wrote. False, with the state untouched, if it does not fit."""
    vectors = {key: tensors[f"vectors.{key}"] for key in state.vectors if f"vectors.{key}" in tensors}
    if {key: vector.shape for key, vector in vectors.items()} != {key: own.shape for key, own in state.vectors.items()}:
        return False
    if not all(name in table for name in _NUMBERS):
        return False
    with torch.no_grad():
        for key, vector in state.vectors.items():
            vector.copy_(vectors[key])
            prefix = f"optimizer.{key}."
            kept = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
            if kept:
                state.optimizer.state[vector] = kept
    state.best = {key: tensors[f"best.{key}"] for key in vectors if f"best.{key}" in tensors} or None
    start = "embeddings."
    state.embeddings = {name.removeprefix(start): rows for name, rows in tensors.items() if name.startswith(start)}
    state.history = [Losses(*row) for row in tensors["history"].tolist()]
    state.scores = [Score(int(step), *shares) for step, *shares in tensors["scores"].tolist()]
    for name in _NUMBERS:
        setattr(state, name, table[name])
    return True
