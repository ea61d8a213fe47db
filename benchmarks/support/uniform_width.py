"""Narrows all layers of a denoiser alike: what a choice of units is compared with.

Of each layer the same share of the units stays, those of the largest weights.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ...engines.pruning.parts import Prunable
from ...engines.pruning.units import HiddenUnits, LeftOut
from ...experts.widths import kept_share
from ...prefix.errors import ExpertsError

STEPS = 64
"""Shares of the width that are tried, evenly spread."""


def uniform_width(prunable: Prunable, keep: float) -> LeftOut:
    """The widest form in which no more than a share of the multiplications is left.

    Raises:
        ExpertsError: the narrowest form still makes more.
    """
    with prunable.denoiser.gradients(1):
        shares = prunable.unit_shares()
    norms = {name: _norms(prunable.network, units) for name, units in prunable.units.items()}
    for step in range(STEPS, 0, -1):
        kept = {name: _largest(norms[name], units.together, step / STEPS) for name, units in prunable.units.items()}
        if kept_share(shares, kept) - keep <= 1e-9:
            return LeftOut(kept=kept)
    raise ExpertsError(f"Narrowed as far as it goes more than {keep:.0%} is left: keep more.")


def _norms(network: nn.Module, units: HiddenUnits) -> Tensor:
    """Squared norm of each unit's weights, `[count]`."""
    found = torch.zeros(units.count)
    for name in units.into:
        weight: Any = network.get_submodule(name).weight
        if weight.ndim > 1:
            found += weight.detach().float().square().flatten(1).sum(1).view(units.parts, units.count, -1).sum((0, 2))
    taken: Any = network.get_submodule(units.out).weight
    return found + taken.detach().float().transpose(0, 1).square().flatten(1).sum(1).view(units.count, -1).sum(1)


def _largest(norms: Tensor, together: int, share: float) -> Tensor:
    """A mask of the units of the largest weights; as many as go together at least."""
    kept = max(together, together * round(share * len(norms) / together))
    return torch.zeros(len(norms), dtype=torch.bool).index_fill(0, norms.topk(kept).indices, True)
