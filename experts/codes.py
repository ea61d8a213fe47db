"""Chooses the blocks that an expert keeps: by their sensitivity, then by gates that are learned (docs/METHODS.md 8.3).

Knows of a denoiser only how far it is from itself without some of its parts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..engines.pruning.parts import DenoiserPart
from ..prefix.errors import ExpertsError

TEMPERATURE = 0.4
"""Of the gates' sigmoid, as the authors have it."""

START = 1.5
"""Logit that a block starts from which sensitivity keeps; the others from its negative."""

RATE = 0.05

RESOURCE = 2.0
"""Weight of the resource loss, as the authors have it."""


def kept_share(parts: Sequence[DenoiserPart], removed: Sequence[str]) -> float:
    """Share of the multiplications that is left."""
    return 1.0 - sum(part.share for part in parts if part.name in set(removed))


def least_sensitive(
    parts: Sequence[DenoiserPart], keep: float, error: Callable[[Sequence[str]], float]
) -> tuple[str, ...]:
    """Blocks to remove, one after the other, each time the one whose loss costs least for what it saves.

    Args:
        keep: share of the multiplications that may be left.
        error: how far the denoiser without some blocks is from the whole one.

    Raises:
        ExpertsError: all blocks together are not enough.
    """
    removed: list[str] = []
    now = 0.0
    while (missing := kept_share(parts, removed) - keep) > 1e-9:
        rest = [part for part in parts if part.name not in removed and part.share > 0]
        if not rest:
            raise ExpertsError(
                f"Without all the blocks that can go this model still makes {kept_share(parts, removed):.0%} of its"
                " multiplications: keep more, or let less of it go to the last steps (whole share)."
            )
        errors = {part: error([*removed, part.name]) for part in rest}
        best = min(rest, key=lambda part: max(errors[part] - now, 1e-9) / min(part.share, missing))
        removed.append(best.name)
        now = errors[best]
    return tuple(removed)


def exchanged(
    parts: Sequence[DenoiserPart], removed: Sequence[str], keep: float, error: Callable[[Sequence[str]], float]
) -> tuple[str, ...]:
    """Other blocks to remove, where one of those that stayed is better gone than one of these.

    What goes first is chosen alone, and may be the wrong one beside those that go later. Each is tried once.

    Args:
        removed: what `least_sensitive` found.
        keep, error: as there.
    """
    chosen, now = list(removed), error(removed) if removed else 0.0
    for name in removed:
        others = [other for other in chosen if other != name]
        tried = {
            part.name: error([*others, part.name])
            for part in parts
            if part.name not in chosen and kept_share(parts, [*others, part.name]) - keep <= 1e-9
        }
        if tried and min(tried.values()) < now:
            best = min(tried, key=lambda other: tried[other])
            chosen, now = [*others, best], tried[best]
    return tuple(chosen)


def at_random(parts: Sequence[DenoiserPart], keep: float, random: torch.Generator) -> tuple[str, ...]:
    """Blocks to remove in no order, for comparison.

    Raises:
        ExpertsError: as `least_sensitive`.
    """
    order = {parts[number].name: place for place, number in enumerate(torch.randperm(len(parts), generator=random))}
    return least_sensitive(parts, keep, lambda removed: sum(order[name] * _share(parts, name) for name in removed))


def _share(parts: Sequence[DenoiserPart], name: str) -> float:
    return next(part.share for part in parts if part.name == name)


class Gates:
    """The gates of an expert's blocks, learned by straight-through samples.

    Args:
        parts: the blocks.
        removed: those that start closed.
        keep: share of the multiplications that may be left.
        random: where the samples come from.
    """

    def __init__(
        self, parts: Sequence[DenoiserPart], removed: Sequence[str], keep: float, random: torch.Generator
    ) -> None:
        start = [-START if part.name in removed else START for part in parts]
        self._parts = parts
        self._shares = torch.tensor([part.share for part in parts])
        self._keep = keep
        self._random = random
        self._logits = torch.tensor(start, requires_grad=True)
        self._optimizer = torch.optim.Adam([self._logits], RATE)

    def step(self, loss_of: Callable[[dict[str, Tensor]], Tensor]) -> float:
        """One step on a sample of gates, `{name: 0 or 1}`, and the loss that it gives; the loss without resources."""
        noise = torch.rand(len(self._parts), generator=self._random).clamp(1e-6, 1 - 1e-6)
        soft = torch.sigmoid((self._logits + torch.log(noise / (1 - noise))) / TEMPERATURE)
        gates = (soft > 0.5).float() + soft - soft.detach()
        loss = loss_of({part.name: gate for part, gate in zip(self._parts, gates, strict=True)})
        left = 1.0 - ((1.0 - gates) * self._shares).sum()
        resource = torch.log(left.clamp_min(1e-3) / self._keep).abs()
        self._optimizer.zero_grad(set_to_none=True)
        (loss + RESOURCE * resource).backward()
        self._optimizer.step()
        return float(loss.detach())

    @property
    def removed(self) -> tuple[str, ...]:
        """The blocks that are most likely closed, and as many more, or fewer, as the compute that is kept wants."""
        closed = sorted(zip(self._logits.tolist(), self._parts, strict=True), key=lambda pair: pair[0])
        removed: list[str] = []
        for _, part in closed:
            if kept_share(self._parts, removed) - self._keep <= 1e-9:
                break
            removed.append(part.name)
        for name in list(removed):  # What went early may have become needless.
            others = [other for other in removed if other != name]
            if kept_share(self._parts, others) - self._keep <= 1e-9:
                removed = others
        return tuple(removed)
