"""Chooses the units that an expert's layers keep, by what each of them changes in what is predicted
(docs/METHODS.md 8.3)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from ..engines.pruning.units import HiddenUnits
from ..prefix.errors import ExpertsError

ROUNDS = 4
"""In which units go; before each it is measured anew what those that are left change."""

Importance = Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]]
"""Of masks `[count]` of the units that are kept, by holder: what each unit changes, squared, `[count]`."""


def kept_share(shares: Mapping[str, float], kept: Mapping[str, Tensor]) -> float:
    """Share of the multiplications that is left.

    Args:
        shares: that all units of a holder make together.
        kept: masks of the units that stay, by holder.
    """
    return 1.0 - sum(shares[name] * (1.0 - float(mask.float().mean())) for name, mask in kept.items())


def least_important(
    units: Mapping[str, HiddenUnits], shares: Mapping[str, float], keep: float, importance: Importance
) -> dict[str, Tensor]:
    """The units to keep, as masks by holder: those go first that change least for the compute that they take.

    Of each holder so many go at a time as `HiddenUnits.together` says, and as many stay at least.

    Args:
        shares: that all units of a holder make together, of the multiplications.
        keep: share of the multiplications that may be left.

    Raises:
        ExpertsError: even the narrowest layers make more.
    """
    kept = {name: torch.ones(about.count, dtype=torch.bool) for name, about in units.items()}
    if keep >= 1:
        return kept
    narrowest = kept_share(shares, {name: torch.arange(one.count) < one.together for name, one in units.items()})
    if narrowest - keep > 1e-9:
        raise ExpertsError(
            f"Narrowed as far as they go the layers of this model still make {narrowest:.0%} of its multiplications:"
            " keep more, or let less of it go to the last steps (whole share)."
        )
    for now in range(1, ROUNDS + 1):
        _narrow(kept, units, shares, 1.0 - (1.0 - keep) * now / ROUNDS, importance(kept))
    return kept


def _narrow(
    kept: Mapping[str, Tensor],
    units: Mapping[str, HiddenUnits],
    shares: Mapping[str, float],
    keep: float,
    importance: Mapping[str, Tensor],
) -> None:
    """Takes units out of the masks, until no more than a share of the multiplications is left."""
    offered = []
    for name, about in units.items():
        share = shares[name] * about.together / about.count
        left = kept[name].nonzero().flatten()
        ordered = left[importance[name][left].argsort(stable=True)]
        for some in list(ordered.split(about.together))[:-1]:
            if share > 0:
                offered.append((float(importance[name][some].sum()) / share, share, name, some))
    over = kept_share(shares, kept) - keep
    for _, share, name, some in sorted(offered, key=lambda one: one[0]):
        if over <= 1e-9:
            return
        kept[name][some] = False
        over -= share
