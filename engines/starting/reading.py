"""Has a conditional prefix begin at the description of whoever a prompt names.

Attention that begins anywhere may settle on positions that say the same whoever is named, and features at random say
little of looks; then what is learned makes much the same vectors of all names. So attention begins at the position
that the gate takes for a name, and features at the directions of states there that tell descriptions by ridge
regression (Hoerl and Kennard, 1970), of a rank no higher than that of what they tell (Izenman, 1975). Of these
features another ridge regression makes the token embeddings of the description: the vectors say it where the prompt
says the name. It needs no picture of anybody. Where a text encoder's states tell too little of people who were left
out, all begins at random.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ...prefix.meta_network import features_read
from .left_out import left_out_in_turn

LEAD = 8.0
"""By how much the score of a prompt's clearest position exceeds the mean of all, at first."""

TELLING_PENALTIES = (0.1, 0.3, 1.0, 3.0, 10.0)
"""Weights of the squared size of what tells descriptions beside its mean squared error, for standardized states; of
these the one is taken with which most is told of people left out."""

LEAST_SPREAD = 1e-3
"""Share of the size of all descriptions below which an axis of theirs counts as none."""

LEAST_TOLD = 0.25
"""Share of how far descriptions differ that states have to tell of people left out."""

PENALTY = 0.01
"""Weight of the squared size of the regression's matrix beside the mean squared error, of vectors in units of the
spread of token embeddings."""


@torch.no_grad()
def begin_at_descriptions(
    network: Mapping[str, Tensor],
    always: Tensor,
    named: Sequence[Tensor],
    described: Sequence[Tensor],
    whom: Sequence[int],
    generator: torch.Generator,
) -> bool:
    """Writes to the parts of a meta-network that are learned.

    Unless states tell the descriptions of people who were left out (`told_of_others`), all stay as they are: vectors
    that say a description at random also say it where a place or a mascot is taken for somebody.

    Args:
        network: `prefix.meta_network`, with its gate.
        always: the vectors that the made ones are counted from, `[m, d]`.
        named: standardized states `[n, w]` of each prompt that names somebody.
        described: token embeddings `[k, d]` of the description of whoever each of these names, of which the first m,
            repeated as needed, are what the vectors begin at; k is 0 where there is none, and not for all of them.
        whom: whom each of these names, any number.
        generator: mixes the features.

    Returns:
        whether it did.
    """
    detector = network["detector"] / network["detector"].norm().clamp_min(1e-12)
    chosen = [(states, rows, one) for states, rows, one in zip(named, described, whom, strict=True) if len(rows)]
    marks = [states @ detector for states, _, _ in chosen]
    clearest = torch.stack([states[mark.argmax()] for (states, _, _), mark in zip(chosen, marks, strict=True)])
    count = len(always)
    goals = torch.stack([rows[[index % len(rows) for index in range(count)]] for _, rows, _ in chosen])
    goals = (goals - always) / network["spread"]
    people = torch.tensor([one for _, _, one in chosen])
    told = {penalty: told_of_others(clearest, goals.flatten(1), people, penalty) for penalty in TELLING_PENALTIES}
    best = max(TELLING_PENALTIES, key=lambda penalty: told[penalty])
    if not detector.any() or not told[best] >= LEAST_TOLD:
        return False
    wanted = network["values"].shape[1]
    lead = torch.stack([mark.max() - mark.mean() for mark in marks]).mean().clamp_min(1e-6)
    network["keys"][:, 0] = detector
    network["queries"][:, 0] = LEAD / lead
    directions = telling(clearest, goals.flatten(1), wanted, best)
    mixed = torch.linalg.qr(torch.randn(wanted, wanted, generator=generator))[0]
    network["values"][:] = directions @ mixed[: directions.shape[1]]
    network["hidden"][:] = torch.linalg.qr(torch.randn(wanted, wanted, generator=generator))[0]
    read = [
        features_read(network, states[None], torch.ones(1, len(states), dtype=torch.bool)) for states, _, _ in chosen
    ]
    features = torch.cat(read)
    for index in range(count):
        made, goal = features[:, index], goals[:, index]
        network["outputs"][index] = _ridge(made - made.mean(0), goal - goal.mean(0), PENALTY)
        network["offset"][index] = (goal - made @ network["outputs"][index]).mean(0)
    return True


def told_of_others(states: Tensor, goals: Tensor, people: Tensor, penalty: float) -> float:
    """Share of how far goals differ that states tell of people who were left out, in four parts; at most 1.

    Below 0 where they tell less than the mean of the others' does, and where there are too few people.

    Args:
        states: `[n, w]`.
        goals: `[n, d]`.
        people: whose each is, `[n]`.
        penalty: one of `TELLING_PENALTIES`.
    """
    wanted = _axes(goals, len(goals))
    off, apart = 0.0, 0.0
    for out in left_out_in_turn(people):
        middle, goal = states[~out].mean(0), wanted[~out].mean(0)
        told = (states[out] - middle) @ _ridge(states[~out] - middle, wanted[~out] - goal, penalty)
        off += float((told - (wanted[out] - goal)).square().sum())
        apart += float((wanted[out] - goal).square().sum())
    return 1 - off / apart if apart > 0 else -1.0


def telling(states: Tensor, goals: Tensor, most: int, penalty: float) -> Tensor:
    """The directions `[w, k]` of states that tell goals, those of the goals' widest axes first; k is at most `most`.

    What they tell is as wide as ridge regression makes it, and of variance `most` in all, so that it is of variance one
    in each of as many numbers once it is mixed. The mean of states tells nothing.

    Args:
        states: `[n, w]`.
        goals: `[n, d]`.
        penalty: one of `TELLING_PENALTIES`.
    """
    middle = states.mean(0)
    apart = states - middle
    count = len(states)
    wanted = _axes(goals, most)
    seen = torch.cat([apart, count**0.5 * middle[None]])
    found = _ridge(seen, torch.cat([wanted, torch.zeros(1, wanted.shape[1])]), penalty)
    return found * (most * count / (apart @ found).square().sum().clamp_min(1e-12)).sqrt()


def _axes(goals: Tensor, most: int) -> Tensor:
    """Where goals `[n, d]` lie on the axes along which they differ most, `[n, k]`; at most so many."""
    apart = goals - goals.mean(0)
    spreads, axes = torch.linalg.eigh((apart @ apart.T).double())  # Goals are much wider than they are many.
    spreads, axes = spreads.clamp_min(0.0).sqrt().flip(0), axes.flip(1)
    kept = min(most, int((spreads > LEAST_SPREAD * goals.norm()).sum()))
    return (axes[:, :kept] * spreads[:kept]).to(goals)


def _ridge(known: Tensor, goals: Tensor, penalty: float) -> Tensor:
    """The matrix `[w, d]` that makes goals `[n, d]` of what is known, `[n, w]`; both lie about 0.

    Args:
        penalty: weight of the squared size of the matrix beside the mean squared error.
    """
    many, wide = known.shape
    seen, wanted = known.double(), goals.double()
    same = penalty * many * torch.eye(min(many, wide), dtype=torch.float64)
    if wide > many:
        return (seen.T @ torch.linalg.solve(seen @ seen.T + same, wanted)).to(goals)
    return torch.linalg.solve(seen.T @ seen + same, seen.T @ wanted).to(goals)
