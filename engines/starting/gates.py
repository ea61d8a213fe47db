"""Fits the gate of a conditional prefix: what tells prompts that name somebody from others, by a text encoder's states.

It is a logistic regression on the states at single positions. A prompt counts by the position that says most clearly
that somebody is named, so that words beside a name cannot hide it, however many they are: learning from bags of
instances, of which one makes the bag positive (Maron and Lozano-Pérez, "A Framework for Multiple-Instance Learning",
NeurIPS 1997). It needs nothing but prompts, no picture of anybody.

What it was fitted to is not all that there is: a name of a place that stands in no list may lie on the side of people's
names, and far from all of them. So it is also measured how far from others people lie who are left out, and what lies
much farther is nobody's name.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import softplus

from .left_out import left_out_in_turn
from .regression import fitted

DECAY = 0.003
"""Weight of the squared size of the detector, for standardized states. Of 0.003 to 0.03 the one that told apart best
people that were held out of what it was fitted to, and prompts of the demo's language (docs/figures.md)."""

NAMES_WEIGHT = 10.0
"""Weight of prompts that name somebody: a name that is let through unprotected is worse than a prompt that changes."""

AXES = 32
"""Axes along which it is told how widely people's names differ; along all others by the mean of all axes at most."""

LEAST_SPREAD = 1e-3
"""Deviation of the states of names below which they all lie at one place; of all states it is 1."""

BEYOND = 1.2
"""How much farther than the farthest of the people left out a name may lie from the names fitted to."""


def fitted_gate(named: Sequence[Tensor], others: Sequence[Tensor]) -> dict[str, Tensor]:
    """The parts `detector` `[w]` and `threshold` `[1]` of a meta-network (`prefix.meta_network`).

    Args:
        named: standardized states `[n, w]` of each prompt that names somebody; at least one prompt.
        others: those of each prompt that does not; at least one.
    """
    prompts = [*named, *others]
    states = torch.cat(prompts)
    prompt_of = torch.repeat_interleave(torch.arange(len(prompts)), torch.tensor([len(said) for said in prompts]))

    def wrong(detector: Tensor, threshold: Tensor) -> Tensor:
        clearest = torch.full((len(prompts),), -torch.inf)
        logits = threshold + clearest.scatter_reduce(0, prompt_of, states @ detector, "amax")
        return NAMES_WEIGHT * softplus(-logits[: len(named)]).mean() + softplus(logits[len(named) :]).mean()

    detector, threshold = fitted(wrong, states.shape[1], DECAY)
    return {"detector": detector, "threshold": threshold}


def fitted_nearness(detector: Tensor, named: Sequence[Tensor], whom: Sequence[int]) -> dict[str, Tensor]:
    """The parts `NEAR` of a meta-network (`prefix.meta_network`); none with too few people to leave some out.

    Names are taken for points of a normal distribution, whose covariance is that of their states and, along every
    axis, the mean variance besides (Mahalanobis, "On the generalized distance in statistics", 1936).

    Args:
        detector: of `fitted_gate`.
        named: standardized states `[n, w]` of each prompt that names somebody.
        whom: whom each of these names, any number; nothing at all if that is not known.
    """
    if not whom:
        return {}
    clearest = torch.stack([states[(states @ detector).argmax()] for states in named])
    farthest = 0.0
    for out in left_out_in_turn(torch.tensor(whom)):
        farthest = max(farthest, float(_distances(clearest[out], *_spread(clearest[~out])).max()))
    middle, axes, rest = _spread(clearest)
    if not LEAST_SPREAD < float(rest.sqrt()) < float("inf") or not 0 < farthest < float("inf"):
        return {}
    reach = BEYOND * farthest
    return {"middle": middle, "axes": axes / reach, "reach": (reach * rest.sqrt()).reshape(1)}


def _spread(states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The middle `[w]` of states `[n, w]`, the axes `[w, k]` along which they lie widely, and the mean variance.

    A square of a distance is that of the whole over the mean variance, less that of what lies along the axes.
    """
    middle = states.mean(0)
    _, sizes, axes = torch.linalg.svd(states - middle, full_matrices=False)
    variances = sizes.square() / len(states)
    rest = variances.sum() / states.shape[1]
    wide = variances[:AXES]
    return middle, axes[:AXES].T * (1 / rest - 1 / (wide + rest)).clamp_min(0.0).sqrt(), rest


def _distances(states: Tensor, middle: Tensor, axes: Tensor, rest: Tensor) -> Tensor:
    away = states - middle
    return (away.square().sum(1) / rest - (away @ axes).square().sum(1)).clamp_min(0.0).sqrt()
