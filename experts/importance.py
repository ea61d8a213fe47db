"""Measures what each unit of a denoiser's layers changes in its predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..engines.denoiser import Conditioning
from ..engines.micro_batches import MicroBatches
from ..engines.pruning.parts import Prunable
from ..engines.pruning.units import gated_units
from ..finetuning.distillation import Answers, answers_of

PROBES = 4
"""Directions at random that predictions are looked at along: each tells of each unit once."""


@dataclass(frozen=True)
class Noised:
    """Pictures with noise, and what the whole denoiser makes of them.

    Attributes:
        conditioning: of each.
        noised: `[n, *latent_shape]`.
        t: `[n]`.
        target: `[n, *latent_shape]`, what is true.
        whole: what the whole denoiser answers.
    """

    conditioning: Conditioning
    noised: Tensor
    t: Tensor
    target: Tensor
    whole: Answers


def unit_importance(
    prunable: Prunable,
    measured: Noised,
    nothing: Conditioning,
    random: torch.Generator,
    kept: Mapping[str, Tensor],
    micro_batches: MicroBatches,
) -> dict[str, Tensor]:
    """What each unit changes, squared, by the name of its layer, while others are gone; to first order.

    That is the squared length of the derivative of all predictions by the unit's gate, predictions being told in shares
    of what the whole denoiser answers, and of what guidance changes in it. A direction at random along which they are
    looked at has it on average (Hutchinson's estimate of the diagonal of JᵀJ; docs/METHODS.md 8.3).

    Args:
        nothing: what guidance draws away from.
        random: of the directions.
        kept: a mask `[count]` of each layer's units that are there.
    """
    denoiser, whole = prunable.denoiser, measured.whole
    length = whole.conditional.norm().clamp_min(1e-12)
    of_change = (whole.guided - whole.conditional).norm().clamp_min(1e-12)

    def probed(places: Sequence[int]) -> list[Tensor]:
        some = list(places)
        gates = {name: mask.float().requires_grad_() for name, mask in kept.items()}
        asked = measured.noised[some], measured.t[some], [measured.conditioning[place] for place in some]
        with torch.enable_grad(), gated_units(prunable.network, prunable.units, gates):
            answers = answers_of(denoiser, *asked, nothing, denoiser.guidance)
            answered = [(answers.conditional, length)]
            if denoiser.guidance != 1:
                answered.append((answers.guided - answers.conditional, of_change))
            found = [torch.zeros(len(gate)) for gate in gates.values()]
            for probe in range(PROBES):
                directions = [torch.randn(one.shape, generator=random).to(one) / by.to(one) for one, by in answered]
                along = sum((one * way).sum() for (one, _), way in zip(answered, directions, strict=True))
                slopes = torch.autograd.grad(along, list(gates.values()), retain_graph=probe < PROBES - 1)
                found = [one + slope.square() for one, slope in zip(found, slopes, strict=True)]
        return found

    parts = micro_batches.work(probed, range(len(measured.noised)))
    return {name: torch.stack(found).sum(0) for name, found in zip(kept, zip(*parts, strict=True), strict=True)}
