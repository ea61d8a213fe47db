"""Steps along the orthogonalized momentum of matrices (Muon), and AdamW for all that is none."""

from __future__ import annotations

from collections import defaultdict

import torch

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic iteration that drives singular values towards one: Keller Jordan, Muon, 2024."""


@torch.no_grad()
def orthogonalized(batch: torch.Tensor, steps: int = 5) -> torch.Tensor:
    """Matrices [n, rows, columns] with their singular values brought to about one, computed in bfloat16."""
    a, b, c = _COEFFICIENTS
    x = batch.bfloat16()
    wide = x.shape[-1] >= x.shape[-2]
    x = x if wide else x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    return (x if wide else x.mT).to(batch.dtype)


class Muon(torch.optim.Optimizer):
    """Muon with Nesterov momentum for weights of two dimensions and more; kernels are taken as [out, the rest].

    A step's size is given as that of AdamW for a matrix: its root mean square is a fifth of the rate.
    """

    def __init__(
        self, parameters: list[torch.nn.Parameter], lr: float, weight_decay: float, momentum: float = 0.95
    ) -> None:
        super().__init__(parameters, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self) -> None:
        """Takes a step; matrices of one shape are orthogonalized together."""
        for group in self.param_groups:
            alike: dict[tuple[int, int], list[tuple[torch.nn.Parameter, torch.Tensor]]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                held = state.setdefault("momentum", torch.zeros_like(parameter))
                held.lerp_(parameter.grad, 1 - group["momentum"])
                ahead = parameter.grad.lerp(held, group["momentum"]).flatten(1)
                alike[tuple(ahead.shape)].append((parameter, ahead))
            for (rows, columns), some in alike.items():
                moves = orthogonalized(torch.stack([ahead for _, ahead in some]))
                size = 0.2 * group["lr"] * max(rows, columns) ** 0.5
                for (parameter, _), move in zip(some, moves, strict=True):
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    parameter.add_(move.view_as(parameter), alpha=-size)
