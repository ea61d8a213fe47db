"""Fits the gate of a conditional prefix: what tells prompts that name somebody from others, by a text encoder's states.

It is a logistic regression on the states at single positions. A prompt counts by the position that says most clearly
that somebody is named, so that words beside a name cannot hide it, however many they are: learning from bags of
instances, of which one makes the bag positive (Maron and Lozano-Pérez, "A Framework for Multiple-Instance Learning",
NeurIPS 1997). It needs nothing but prompts, no picture of anybody.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import softplus

from .regression import fitted

DECAY = 0.003
"""Weight of the squared size of the detector, for standardized states. Of 0.003 to 0.03 the one that told apart best
people that were held out of what it was fitted to, and prompts of the demo's language (docs/figures.md)."""

NAMES_WEIGHT = 10.0
"""Weight of prompts that name somebody: a name that is let through unprotected is worse than a prompt that changes."""


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
