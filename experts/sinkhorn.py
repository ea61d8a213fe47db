"""Assigns prompts to experts so that each gets as many, by optimal transport (Sinkhorn and Knopp)."""

from __future__ import annotations

import torch
from torch import Tensor

EPSILON = 0.05
"""Of the entropy: the smaller, the nearer to an assignment of whole prompts."""

ITERATIONS = 30


def balanced(similarities: Tensor, epsilon: float = EPSILON, iterations: int = ITERATIONS) -> Tensor:
    """Shares `[n, K]` of n prompts in K experts: each row sums to 1, each column to n / K.

    Args:
        similarities: `[n, K]`, such as cosines.
    """
    count, experts = similarities.shape
    logits = similarities.double() / epsilon
    rows, columns = torch.zeros(count, 1, dtype=logits.dtype), torch.zeros(1, experts, dtype=logits.dtype)
    wanted = torch.log(torch.tensor(count / experts, dtype=logits.dtype))
    for _ in range(iterations):
        columns = wanted - torch.logsumexp(logits + rows, 0, keepdim=True)
        rows = -torch.logsumexp(logits + columns, 1, keepdim=True)
    return (logits + rows + columns).exp().to(similarities)
