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
"""Share of the widest axis of descriptions below which one counts as none."""

PENALTY = 0.01
"""Weight of the squared size of the regression's matrix beside the mean squared error, both of features and vectors in
their own units."""


@torch.no_grad()
def begin_at_descriptions(
    network: Mapping[str, Tensor],
    always: Tensor,
    named: Sequence[Tensor],
    whom: Sequence[int],
    descriptions: Sequence[Tensor],
    generator: torch.Generator,
) -> None:
    """Writes to all parts of a meta-network that are learned.

    Args:
        network: `prefix.meta_network`, with its gate.
        always: the vectors that the made ones are counted from, `[m, d]`.
        named: standardized states `[n, w]` of each prompt that names somebody.
        whom: whom each of these names, an index of `descriptions`.
        descriptions: token embeddings `[k, d]` of each person's; the first m of them, repeated as needed, are what the
            vectors begin at.
        generator: mixes the features.
    """
    wanted = network["values"].shape[1]
    detector = network["detector"] / network["detector"].norm().clamp_min(1e-12)
    marks = [states @ detector for states in named]
    lead = torch.stack([mark.max() - mark.mean() for mark in marks]).mean().clamp_min(1e-6)
    network["keys"][:, 0] = detector
    network["queries"][:, 0] = LEAD / lead
    clearest = torch.stack([states[mark.argmax()] for states, mark in zip(named, marks, strict=True)])
    count = len(always)
    goals = torch.stack([rows[[index % len(rows) for index in range(count)]] for rows in descriptions])
    goals = ((goals - always) / network["spread"])[torch.tensor(whom)]
    directions = telling(clearest, goals.flatten(1), wanted)
    if directions.shape[1]:
        mixed = torch.linalg.qr(torch.randn(wanted, wanted, generator=generator))[0]
        network["values"][:] = directions @ mixed[: directions.shape[1]]
        network["hidden"][:] = torch.linalg.qr(torch.randn(wanted, wanted, generator=generator))[0]
    read = [features_read(network, states[None], torch.ones(1, len(states), dtype=torch.bool)) for states in named]
    features = torch.cat(read).transpose(0, 1)
    outputs, offset = _regression(features, goals.transpose(0, 1))
    network["outputs"][:] = outputs
    network["offset"][:] = offset


def telling(states: Tensor, goals: Tensor, most: int) -> Tensor:
    """The directions `[w, k]` of states that tell goals, those of the goals' widest axes first; k is at most `most`.

    What they tell is as wide as ridge regression makes it, and of variance `most` in all, so that it is of variance one
    in each of as many numbers once it is mixed. The mean of states tells nothing.

    Args:
        states: `[n, w]`.
        goals: `[n, d]`.
    """
    middle = states.mean(0)
    apart = states - middle
    count = len(states)
    wide = torch.linalg.svd(goals - goals.mean(0), full_matrices=False)
    kept = min(most, int((wide.S > LEAST_SPREAD * wide.S[0]).sum()))
    seen = torch.cat([apart, count**0.5 * middle[None]])
    told = torch.cat([wide.U[:, :kept] * wide.S[:kept], torch.zeros(1, kept)])
    square = seen @ seen.T + TELLING_PENALTY * count * torch.eye(count + 1)
    found = seen.T @ torch.linalg.solve(square, told)
    return found * (most / (apart @ found).square().sum(1).mean().clamp_min(1e-12)).sqrt()


def _regression(features: Tensor, goals: Tensor) -> tuple[Tensor, Tensor]:
    """The matrices `[m, features, d]` and offsets `[m, d]` that make goals of features.

    Args:
        features: `[m, n, features]`.
        goals: `[m, n, d]`.
    """
    count, wanted = features.shape[1:]
    known = torch.cat([features, torch.ones(*features.shape[:2], 1)], -1).double()
    penalty = torch.full((wanted + 1,), PENALTY, dtype=torch.float64)
    penalty[-1] = 0.0
    square = known.mT @ known / count + torch.diag(penalty)
    found = torch.linalg.solve(square, known.mT @ goals.double() / count).to(goals)
    return found[:, :-1], found[:, -1]
