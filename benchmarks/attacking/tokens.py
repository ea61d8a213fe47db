"""Searches for words before a name by which a protected model draws the person again: anybody can type them.

Two ways. *Projection* (PEZ: Wen et al., arXiv 2302.03668; P4D: Chin et al., arXiv 2309.06135) moves free vectors by the
gradient at the words that are nearest to them. *Greedy coordinate gradient* (Zou et al., arXiv 2307.15043) asks the
gradient which words promise most, tries some, and keeps the best.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ...engines.denoiser import Denoiser, Vectors
from ...engines.vectors import scale_free_adam
from ...runs.seeds import generator
from .vectors import BATCH, RATE, Budget, Loss

PROMISING = 64
"""Words for each place that the gradient promises most of."""

TRIED = 12
"""Changes that are tried in a step."""

TRIED_ON = 4
"""Prompts that each of them is tried on."""


class Vocabulary:
    """Words that stand for one token each, and their vectors.

    Attributes:
        words: those of them that do.
        rows: their vectors, `{encoder key: [n, d]}`.
    """

    def __init__(self, denoiser: Denoiser, words: Sequence[str]) -> None:
        found = {word: denoiser.token_embeddings(word) for word in dict.fromkeys(words)}
        self.words = tuple(word for word, rows in found.items() if all(len(row) == 1 for row in rows.values()))
        keys = next(iter(found.values()))
        self.rows = {key: torch.cat([found[word][key] for word in self.words]) for key in keys}

    def embedding(self, chosen: Sequence[int]) -> dict[str, Tensor]:
        """The vectors of these words, in order, `{encoder key: [k, d]}`; they may be differentiated by."""
        return {key: rows[list(chosen)].clone().requires_grad_() for key, rows in self.rows.items()}

    def nearest(self, vectors: Vectors) -> list[int]:
        """For each vector the word whose own is nearest by cosine, over all encoders."""
        alike = [
            torch.nn.functional.normalize(rows.detach(), dim=1) @ torch.nn.functional.normalize(self.rows[key], dim=1).T
            for key, rows in vectors.items()
        ]
        return [int(index) for index in torch.stack(alike).sum(0).argmax(1)]

    def text(self, chosen: Sequence[int]) -> str:
        """These words, as they are typed."""
        return " ".join(self.words[index] for index in chosen)


def projected_words(
    denoiser: Denoiser, parameters: Vectors, prompts: Sequence[str], vocabulary: Vocabulary, budget: Budget
) -> str:
    """The best words that projection comes upon, to be typed before the prompt; see `fitted_embedding`."""
    with denoiser.gradients(BATCH):
        loss_of = Loss(denoiser, parameters, prompts, seed=budget.seed, are_words=True)
        chosen = _random_words(vocabulary, budget)
        free = vocabulary.embedding(chosen)
        optimizer = scale_free_adam(free, RATE)
        for group in optimizer.param_groups:
            group["lr"] = group["peak"]
        best, least = chosen, float("inf")
        some = _prompts(len(prompts), budget)
        for _ in range(budget.steps):
            chosen = vocabulary.nearest(free)
            words = vocabulary.embedding(chosen)
            loss = loss_of(words, some(BATCH))
            if float(loss.detach()) < least:
                best, least = chosen, float(loss.detach())
            gradients = torch.autograd.grad(loss, list(words.values()))
            for rows, gradient in zip(free.values(), gradients, strict=True):
                rows.grad = gradient
            optimizer.step()
    return vocabulary.text(best)


def searched_words(
    denoiser: Denoiser, parameters: Vectors, prompts: Sequence[str], vocabulary: Vocabulary, budget: Budget
) -> str:
    """The words that greedy coordinate gradient ends with, to be typed before the prompt; see `fitted_embedding`."""
    draw = generator(budget.seed, "changes of an attack")
    with denoiser.gradients(BATCH):
        loss_of = Loss(denoiser, parameters, prompts, seed=budget.seed, are_words=True)
        chosen, some = _random_words(vocabulary, budget), _prompts(len(prompts), budget)
        for _ in range(budget.steps):
            asked = some(TRIED_ON)
            words = vocabulary.embedding(chosen)
            now = loss_of(words, asked)
            gradients = torch.autograd.grad(now, list(words.values()))
            promised = sum(
                (gradient @ vocabulary.rows[key].T for key, gradient in zip(words, gradients, strict=True)),
                torch.zeros(len(chosen), len(vocabulary.words)),
            )
            promising = promised.topk(min(PROMISING, len(vocabulary.words)), largest=False).indices
            tries = [chosen]
            for _ in range(TRIED):
                place, which = (int(torch.randint(n, (1,), generator=draw)) for n in promising.shape)
                tries.append([*chosen[:place], int(promising[place, which]), *chosen[place + 1 :]])
            chosen = _least(
                tries, float(now.detach()), lambda one, asked=asked: _without_gradient(loss_of, vocabulary, one, asked)
            )
    return vocabulary.text(chosen)


def _least(tries: Sequence[list[int]], first: float, loss: Callable[[list[int]], float]) -> list[int]:
    losses = [first, *(loss(one) for one in tries[1:])]
    return tries[losses.index(min(losses))]


@torch.no_grad()
def _without_gradient(loss_of: Loss, vocabulary: Vocabulary, chosen: Sequence[int], asked: Sequence[int]) -> float:
    return float(loss_of(vocabulary.embedding(chosen), asked))


def _random_words(vocabulary: Vocabulary, budget: Budget) -> list[int]:
    drawn = generator(budget.seed, "words of an attack")
    return torch.randint(len(vocabulary.words), (budget.count,), generator=drawn).tolist()


def _prompts(count: int, budget: Budget) -> Callable[[int], list[int]]:
    drawn = generator(budget.seed, "prompts of an attack")
    return lambda most: torch.randperm(count, generator=drawn)[:most].tolist()
