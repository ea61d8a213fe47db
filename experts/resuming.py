"""Keeps in a run's folder what each expert has come to, so that a run that was broken off need not make it again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from ..engines.pruning.units import HiddenUnits, LeftOut
from ..runs.run_folder import RunFolder
from .value import TunedExpert

Saved = tuple[dict[str, Tensor], dict[str, Any]]


def kept_left_out(
    folder: RunFolder, number: int, units: Mapping[str, HiddenUnits], choose: Callable[[], LeftOut]
) -> LeftOut:
    """What an expert does without: as it was chosen before, or else as it is chosen now, which is kept."""
    name = f"expert {number} without"
    saved = folder.load(name)
    if saved is not None and (found := _left_out(saved, units)) is not None:
        return found
    chosen = choose()
    masks = {layer: mask.to("cpu", torch.uint8) for layer, mask in chosen.kept.items()}
    folder.save(name, masks, {"blocks": list(chosen.blocks)})
    return chosen


def kept_tuned(folder: RunFolder, number: int, tune: Callable[[], TunedExpert]) -> TunedExpert:
    """What an expert learned: before, or else now, which is kept."""
    name = f"expert {number}"
    saved = folder.load(name)
    if saved is not None and (found := _tuned(saved)) is not None:
        return found
    tuned = tune()
    delta = {weight: value.cpu().contiguous() for weight, value in tuned.delta.items()}
    folder.save(name, delta, {"before": tuned.before, "after": tuned.after})
    return tuned


def _left_out(saved: Saved, units: Mapping[str, HiddenUnits]) -> LeftOut | None:
    masks, table = saved
    blocks = table.get("blocks")
    if not isinstance(blocks, list):
        return None
    found = LeftOut(tuple(map(str, blocks)), {layer: mask.bool() for layer, mask in masks.items()})
    return found if found.is_of(units) else None


def _tuned(saved: Saved) -> TunedExpert | None:
    delta, table = saved
    before, after = table.get("before"), table.get("after")
    return TunedExpert(delta, before, after) if isinstance(before, float) and isinstance(after, float) else None
