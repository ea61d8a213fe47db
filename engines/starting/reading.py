"""Has a conditional prefix begin at the description of whoever a prompt names.

Attention that begins anywhere may settle on positions that say the same whoever is named, and features at random say
little of looks; then what is learned makes nearly the same vectors of all names. So attention begins at the position
that the gate takes for a name, and features at the directions of states there that tell descriptions by ridge
regression (Hoerl and Kennard, 1970), of a rank no higher than that of what they tell (Izenman, 1975). Of these
features another ridge regression makes the token embeddings of the description: the vectors say it where the prompt
says the name. It needs no picture of anybody.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ...prefix.meta_network import features_read

LEAD = 8.0
"""By how much the score of a prompt's clearest position exceeds the mean of all, at first."""

TELLING_PENALTY = 0.1
"""Weight of the squared size of what tells descriptions beside its mean squared error, for standardized states."""

LEAST_SPREAD = 1e-3
"""Share of the size of all descriptions below which an axis of theirs counts as none."""

LEAST_TOLD = 1e-3
"""Share of how far descriptions differ below which states tell nothing of them."""

PENALTY = 0.01
"""Weight of the squared size of the regression's matrix beside the mean squared error, of vectors in units of the
spread of token embeddings."""


@torch.no_grad()
def begin_at_descriptions(
    network: Mapping[str, Tensor],
    always: Tensor,
    named: Sequence[Tensor],
    described: Sequence[Tensor],
    generator: torch.Generator,
) -> None:
    """Writes to the parts of a meta-network that are learned.

    Where all descriptions are alike, or states tell nothing of them, what is read stays as it is, and the mean of what
    is made becomes that of the descriptions.

    Args:
        network: `prefix.meta_network`, with its gate.
        always: the vectors that the made ones are counted from, `[m, d]`.
        named: standardized states `[n, w]` of each prompt that names somebody.
        described: token embeddings `[k, d]` of the description of whoever each of these names, of which the first m,
            repeated as needed, are what the vectors begin at; k is 0 where there is none, and not for all of them.
        generator: mixes the features.
    """
    wanted = network["values"].shape[1]
    detector = network["detector"] / network["detector"].norm().clamp_min(1e-12)
    told_of = [states for states, rows in zip(named, described, strict=True) if len(rows)]
    marks = [states @ detector for states in told_of]
    lead = torch.stack([mark.max() - mark.mean() for mark in marks]).mean().clamp_min(1e-6)
    network["keys"][:, 0] = detector
    network["queries"][:, 0] = LEAD / lead
    count = len(always)
    goals = torch.stack([rows[[index % len(rows) for index in range(count)]] for rows in described if len(rows)])
    goals = (goals - always) / network["spread"]
    clearest = torch.stack([states[mark.argmax()] for states, mark in zip(told_of, marks, strict=True)])
    directions = telling(clearest, goals.flatten(1), wanted)
    told = directions.shape[1]
    if told:
        mixed = torch.linalg.qr(torch.randn(wanted, wanted, generator=generator))[0]
        network["values"][:] = directions @ mixed[:told]
        network["hidden"][:] = torch.linalg.qr(torch.randn(wanted, wanted, generator=generator))[0]
    read = [features_read(network, states[None], torch.ones(1, len(states), dtype=torch.bool)) for states in told_of]
    features = torch.cat(read)
    for index in range(count):
        made, goal = features[:, index], goals[:, index]
        if told:
            network["outputs"][index] = _regression(made, goal)
        network["offset"][index] = (goal - made @ network["outputs"][index]).mean(0)


def telling(states: Tensor, goals: Tensor, most: int) -> Tensor:
    """The directions `[w, k]` of states that tell goals, those of the goals' widest axes first; k is at most
    `most`, and 0 where all goals are alike, or states tell nothing of them.

    What they tell is as wide as ridge regression makes it, and of variance `most` in all, so that it is of variance one
    in each of as many numbers once it is mixed. The mean of states tells nothing.

    Args:
        states: `[n, w]`.
        goals: `[n, d]`.
    """
    middle = states.mean(0)
    apart = states - middle
    count = len(states)
    others = goals - goals.mean(0)
    spreads, axes = torch.linalg.eigh((others @ others.T).double())  # Goals are much wider than they are many.
    spreads, axes = spreads.clamp_min(0.0).sqrt().flip(0), axes.flip(1)
    kept = min(most, int((spreads > LEAST_SPREAD * goals.norm()).sum()))
    wanted = (axes[:, :kept] * spreads[:kept]).to(states)
    seen = torch.cat([apart, count**0.5 * middle[None]])
    square = seen @ seen.T + TELLING_PENALTY * count * torch.eye(count + 1)
    found = seen.T @ torch.linalg.solve(square, torch.cat([wanted, torch.zeros(1, kept)]))
    told = (apart @ found).square().sum()
    if not told > LEAST_TOLD * wanted.square().sum():
        return found[:, :0]
    return found * (most * count / told).sqrt()


def _regression(features: Tensor, goals: Tensor) -> Tensor:
    """The matrix `[features, d]` that makes goals of features but for what is the same for all.

    Args:
        features: `[n, features]`.
        goals: `[n, d]`.
    """
    apart, others = (rows.double() - rows.double().mean(0) for rows in (features, goals))
    square = apart.T @ apart / len(apart) + PENALTY * torch.eye(features.shape[1], dtype=torch.float64)
    return torch.linalg.solve(square, apart.T @ others / len(apart)).to(goals)
