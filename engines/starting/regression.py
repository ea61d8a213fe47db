"""Fits logistic regressions: what tells two kinds of things apart by one sum of numbers."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

STEPS, RATE = 300, 0.02


def fitted(
    loss: Callable[[Tensor, Tensor], Tensor], width: int, decay: float, biases: int = 1
) -> tuple[Tensor, Tensor]:
    """The weights `[width]` and the biases of the lowest loss, from zeros; by Adam.

    Args:
        loss: of weights and biases.
        decay: weight of the squared size of the weights beside it.
    """
    weights = torch.zeros(width, requires_grad=True)
    bias = torch.zeros(biases, requires_grad=True)
    optimizer = torch.optim.Adam([weights, bias], lr=RATE)
    with torch.enable_grad():
        for _ in range(STEPS):
            optimizer.zero_grad()
            (loss(weights, bias) + decay * weights.square().sum()).backward()
            optimizer.step()
    return weights.detach(), bias.detach()
