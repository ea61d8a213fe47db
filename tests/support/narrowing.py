"""Narrows layers by chance."""

from __future__ import annotations

import torch

from anonymize_faces.engines.pruning.parts import Prunable
from anonymize_faces.engines.pruning.units import LeftOut


def narrowed_by_chance(prunable: Prunable, share: float = 0.5, seed: int = 0) -> LeftOut:
    """Of each layer about a share of the units, so many at a time as must go together, one such at least."""
    random = torch.Generator().manual_seed(seed)
    kept = {}
    for name, units in prunable.units.items():
        several = torch.rand(units.count // units.together, generator=random) < share
        several[0] = True
        kept[name] = several.repeat_interleave(units.together)
    return LeftOut(kept=kept)
