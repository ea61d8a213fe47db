"""Holds all that changes from step to step of fine-tuning, as a value that can be saved.

What is random follows from the seed and the step alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from .drawings import Drawings

LOSS_SCALE = 4096.0
"""What the loss, a mean over a picture's elements, is multiplied with before the backward pass: small gradients of half
precision would vanish otherwise."""

_NUMBERS = ("step", "rate", "loss_scale", "skipped_in_a_row", "notes")


@dataclass
class TuningState:
    """Where fine-tuning stands.

    Attributes:
        weights: the parameters, by name.
        optimizer: over them; each group has its peak rate as `peak`.
        step: steps made, skipped ones included.
        history: their losses; NaN for skipped ones.
        rate: what the scheduled rate is multiplied with; lowered where the loss was bad.
        loss_scale: what the loss is multiplied with before the backward pass.
        skipped_in_a_row: steps skipped just now.
        notes: what happened that a person should hear of, sentences.
    """

    weights: Mapping[str, Tensor]
    optimizer: torch.optim.Optimizer
    step: int = 0
    history: list[float] = field(default_factory=list)
    rate: float = 1.0
    loss_scale: float = LOSS_SCALE
    skipped_in_a_row: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def bytes(self) -> int:
        """That the weights and the optimizer's two means of each take, and the gradient."""
        return 4 * sum(weight.numel() * 4 for weight in self.weights.values())

    def note(self, sentence: str) -> None:
        """Adds a sentence, once."""
        if sentence not in self.notes:
            self.notes.append(sentence)


def state_to_file(state: TuningState, drawings: Drawings | None = None) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The state, and that of drawings under way, as tensors and a table of JSON values."""
    tensors = {f"weights.{name}": weight.detach().cpu().contiguous() for name, weight in state.weights.items()}
    for name, weight in state.weights.items():
        for kind, value in state.optimizer.state.get(weight, {}).items():
            tensors[f"optimizer.{kind}.{name}"] = value.detach().cpu().contiguous()
    tensors["history"] = torch.tensor(state.history, dtype=torch.float64)
    if drawings is not None:
        tensors |= {f"drawings.{name}": value.clone() for name, value in drawings.tensors().items()}
    return tensors, {name: getattr(state, name) for name in _NUMBERS}


def restore(
    state: TuningState, tensors: Mapping[str, Tensor], table: Mapping[str, Any], drawings: Drawings | None = None
) -> bool:
    """Makes a new state the one that `state_to_file` wrote. False, with the state untouched, if it does not fit."""
    found = {name: tensors[f"weights.{name}"] for name in state.weights if f"weights.{name}" in tensors}
    if {name: own.shape for name, own in found.items()} != {name: own.shape for name, own in state.weights.items()}:
        return False
    if "history" not in tensors or not all(name in table for name in _NUMBERS):
        return False
    if drawings is not None and not drawings.restore(
        {name.removeprefix("drawings."): value for name, value in tensors.items() if name.startswith("drawings.")}
    ):
        return False
    with torch.no_grad():
        for name, weight in state.weights.items():
            weight.copy_(found[name])
            kept = {
                kind: tensors[f"optimizer.{kind}.{name}"].to(weight.device if kind != "step" else "cpu")
                for kind in ("step", "exp_avg", "exp_avg_sq")
                if f"optimizer.{kind}.{name}" in tensors
            }
            if kept:
                state.optimizer.state[weight] = kept
    state.history = tensors["history"].tolist()
    for name in _NUMBERS:
        setattr(state, name, table[name])
    return True
