"""Fits what finds the words of names in prompts, of prompts that name somebody and of the same without a name.

Which words are a name's is told by what stands in another prompt in its place: a description. So no list of names or
of other words is needed, and no tokenizer need be asked. See `prefix.name_words`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher

import torch
from torch import Tensor
from torch.nn.functional import softplus

from ...prefix.name_words import likeness, standardized_words
from ..denoiser import PromptStates
from .regression import fitted

DECAY = 0.01
"""Weight of the squared size of the finder, for standardized states and words; of 0.001 to 0.01 the one that found most
words of people who were held out (docs/figures.md)."""

NAMES_WEIGHT = 5.0
"""Weight of words of names: one that is missed may show somebody, one that is none costs the picture a word."""


def fitted_finder(
    network: Mapping[str, Tensor],
    named: Sequence[tuple[PromptStates, PromptStates]],
    others: Sequence[PromptStates],
    anybody: Tensor,
) -> dict[str, Tensor]:
    """The parts `NAMES` of a meta-network (`prefix.meta_network`); none where no name's words differ from others.

    Args:
        network: with the mean and deviation of states, and the spread of embeddings.
        named: prompts that name somebody, at least one, each with the same without the name; states are standardized.
        others: prompts that do not.
        anybody: embeddings `[k, d]`, of which the last is what a name's words begin to be read as; the mean of all
            words where k is 0.
    """
    read = [one for one, _ in named] + [*others]
    states, words = torch.cat([one.states for one in read]), torch.cat([one.words for one in read])
    scale = {
        "word_mean": words.mean(0),
        "word_deviation": words.std(0).clamp_min(1e-3 * float(words.std()) or 1.0),
    }
    words = standardized_words(scale, words)
    marks = [differs(one.words, other.words) for one, other in named]
    is_name = torch.cat([*marks, *(torch.zeros(len(one.words), dtype=torch.bool) for one in others)])

    if not is_name.any() or is_name.all() or not bool(torch.isfinite(words).all()):
        return {}

    def wrong(weights: Tensor, biases: Tensor) -> Tensor:
        scores = likeness(weights, biases, states, words)
        return NAMES_WEIGHT * softplus(-scores[is_name]).mean() + softplus(scores[~is_name]).mean()

    finder, threshold = fitted(wrong, states.shape[1] + words.shape[1], DECAY, biases=2)
    begun = torch.cat([scale["word_mean"][None], anybody])[-1]
    return {
        "finder": finder,
        "finder_threshold": threshold,
        **scale,
        "neutral": ((begun - scale["word_mean"]) / network["spread"]).requires_grad_(),
    }


def differs(words: Tensor, others: Tensor) -> Tensor:
    """Which words of a prompt stand in the place of what differs in another, `[n]`.

    A name that is longer or shorter than what stands in its place moves others on to the next chunk of a prompt, and
    what ends a chunk with them: these differ, too, and are in both. What ends both prompts ends chunks.

    Args:
        words, others: embeddings of both prompts' words, `[n, d]` and `[k, d]`.
    """
    kinds = torch.unique(torch.cat([words, others]), dim=0, return_inverse=True)[1].tolist()
    one, other = kinds[: len(words)], kinds[len(words) :]
    marks, left = torch.ones(len(words), dtype=torch.bool), Counter(other)
    for start, there, length in SequenceMatcher(None, one, other, autojunk=False).get_matching_blocks():
        marks[start : start + length] = False
        left.subtract(other[there : there + length])
    for place in marks.nonzero().flatten().tolist():
        kind = one[place]
        marks[place] = left[kind] <= 0 and not kind == one[-1] == other[-1]
        left[kind] -= 1
    return marks
