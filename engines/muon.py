"""Steps along the orthogonalized momentum of matrices (Muon), by itself or beside Adam for all that is none.

Adam's steps go where most of what is learned from pulls alike, and hardly where it differs: the gradient of a matrix
has few large singular values. Muon (Keller Jordan, 2024, https://kellerjordan.github.io/posts/muon) brings them all to
about one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import MutableMapping
from typing import Any

import torch
from torch import Tensor

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic iteration that drives singular values towards one."""

MOMENTUM = 0.95


@torch.no_grad()
def orthogonalized(batch: Tensor, steps: int = 5, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    """Matrices `[n, rows, columns]` with their singular values brought to about one, computed in `dtype`."""
    a, b, c = _COEFFICIENTS
    x = batch.to(dtype)
    wide = x.shape[-1] >= x.shape[-2]
    x = x if wide else x.mT
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp_min(1e-20)
    for _ in range(steps):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    return (x if wide else x.mT).to(batch.dtype)


class Muon(torch.optim.Optimizer):
    """Muon with Nesterov momentum for weights of two dimensions and more; kernels are taken as [out, the rest].

    A step's size is given as that of AdamW for a matrix: its root mean square is a fifth of the rate.
    """

    def __init__(
        self, parameters: list[torch.nn.Parameter], lr: float, weight_decay: float, momentum: float = MOMENTUM
    ) -> None:
        super().__init__(parameters, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self) -> None:
        """Takes a step; matrices of one shape are orthogonalized together."""
        for group in self.param_groups:
            _take_step(group, self.state, torch.bfloat16)


class AdamAndMuon(torch.optim.Adam):
    """Muon for the groups whose `matrices` is true, Adam for the others.

    A stack of matrices `[n, rows, columns]` is taken as the one that lays them side by side, `[rows, n · columns]`.
    """

    @torch.no_grad()
    def step(self) -> None:
        """Takes a step, after which matrices have no gradient."""
        for group in self.param_groups:
            if group["matrices"]:
                _take_step({**group, "weight_decay": 0.0, "momentum": MOMENTUM}, self.state, torch.float32)
                for parameter in group["params"]:
                    parameter.grad = None
        super().step()


def _take_step(group: MutableMapping[str, Any], states: MutableMapping[Any, Any], dtype: torch.dtype) -> None:
    alike: dict[torch.Size, list[tuple[Tensor, Tensor]]] = defaultdict(list)
    for parameter in group["params"]:
        if parameter.grad is None:
            continue
        held = states[parameter].setdefault("momentum", torch.zeros_like(parameter))
        held.lerp_(parameter.grad, 1 - group["momentum"])
        ahead = _as_matrix(parameter.grad.lerp(held, group["momentum"]))
        alike[ahead.shape].append((parameter, ahead))
    for (rows, columns), some in alike.items():
        moves = orthogonalized(torch.stack([ahead for _, ahead in some]), dtype=dtype)
        size = 0.2 * group["lr"] * max(rows, columns) ** 0.5
        for (parameter, _), move in zip(some, moves, strict=True):
            parameter.mul_(1 - group["lr"] * group["weight_decay"])
            parameter.add_(_as_it_was(move, parameter), alpha=-size)


def _as_matrix(weight: Tensor) -> Tensor:
    return weight.transpose(0, 1).flatten(1) if weight.ndim == 3 else weight.flatten(1)


def _as_it_was(matrix: Tensor, weight: Tensor) -> Tensor:
    if weight.ndim != 3:
        return matrix.view_as(weight)
    stack, rows, columns = weight.shape
    return matrix.view(rows, stack, columns).transpose(0, 1)
