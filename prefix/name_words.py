"""Finds the words of a prompt that name somebody, and puts a neutral vector in the place of each.

Where a text encoder tells what people look like by their names, a conditional prefix says the looks itself, so that
the name need not be read at all: what is not read cannot be drawn, however often or loudly the prompt says it. A
*finder*, logistic regression, tells the words of names from all others by a word's own embedding, and by what the
encoder said at it when it read the prompt alone. The latter can only speak for a name: whatever else stands in a
prompt, an embedding that somebody made for it included, it cannot have a word pass that is a name's by itself. With
standardized states `s` `[w]` and embeddings `e` `[d]` of a position that is read (docs/METHODS.md 2.9):

    likeness to a name:  finder_w · e + b₁ + log (1 + exp (finder_s · s + b₂))
    stands in its place: word_mean + spread · neutral

Of a prompt all words with a likeness above 0 count as a name's, and the likeliest in any case.

Prefixes without these parts leave words as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.functional import softplus

from .injection.tokens import Chunk, Entry, with_row
from .meta_network import Parameters, network_of, part_name, standardized, vectors_of

NEVER = -1e4
"""A threshold at which nothing is found, whatever a prompt says."""


def finds_names(network: Mapping[str, Tensor]) -> bool:
    """Whether a meta-network has the parts for it."""
    return "finder" in network


def leaves_names_unread(parameters: Parameters) -> bool:
    """Whether every text encoder for which vectors are made finds the words of names."""
    networks = [network for key in vectors_of(parameters) if (network := network_of(parameters, key)) is not None]
    return bool(networks) and all(map(finds_names, networks))


def names_found(
    network: Mapping[str, Tensor], states: Tensor, words: Tensor, read: Tensor, end: Tensor | None = None
) -> Tensor:
    """Which positions hold a word of a name, `[n, length]`; none where the network does not look for names.

    What cannot be told, as it is no number, counts as a name's.

    Args:
        states: what the encoder says of the prompts without vectors, `[n, length, w]`.
        words: the embeddings that it reads for that, `[n, length, d]`.
        read: the positions that count, `[n, length]`; at least one of each prompt.
        end: the embedding of what ends a prompt, `[d]`, where that is read as a word is. It is nobody's name, and what
            the encoder says there of the whole prompt may be wanted, such as a pooled output.
    """
    if not finds_names(network):
        return torch.zeros_like(read)
    parts = {name: part.to(states.device) for name, part in network.items()}
    if end is not None:
        read = read & ~_is_behind_words(words, read, end)
    said, seen = standardized(parts, states), standardized_words(parts, words.to(states.device))
    scores = likeness(parts["finder"], parts["finder_threshold"], said, seen).nan_to_num(nan=torch.inf)
    scores = scores.masked_fill(~read, -torch.inf)
    clearest = scores == scores.amax(1, keepdim=True)
    return ((scores > 0) | (clearest & (parts["finder_threshold"][0] > NEVER))) & read


def _is_behind_words(words: Tensor, read: Tensor, end: Tensor) -> Tensor:
    """Which positions hold what ends a prompt, or are the last that is read and follow upon it: padding."""
    ends = (words == end.to(words)).all(-1).to(read.device)
    places = torch.arange(read.shape[1], device=read.device)
    last = places == torch.where(read, places, -1).amax(1, keepdim=True)
    return ends | (last & ends.roll(1, dims=1) & (places > 0))


def likeness(finder: Tensor, threshold: Tensor, states: Tensor, words: Tensor) -> Tensor:
    """How like a word of a name each position is, `[...]`; differentiable.

    Args:
        finder: `[w + d]`.
        threshold: `[2]`.
        states, words: both standardized, `[..., w]` and `[..., d]`.
    """
    of_states, of_words = finder.split([states.shape[-1], words.shape[-1]])
    return words @ of_words + threshold[0] + softplus(states @ of_states + threshold[1])


def standardized_words(network: Mapping[str, Tensor], words: Tensor) -> Tensor:
    """Embeddings of words, `[..., d]` float32, less their mean and over their deviation."""
    return (words.float() - network["word_mean"]) / network["word_deviation"]


def neutral_embedding(network: Mapping[str, Tensor]) -> Tensor:
    """What stands in the place of each word of a name, `[d]`; differentiable in the part that is learned."""
    return network["word_mean"] + network["spread"] * network["neutral"]


def without_names(
    network: Mapping[str, Tensor], chunk: Chunk, found: Tensor, start: int, count: int
) -> Sequence[Entry]:
    """A chunk of tokens with vectors among them, the neutral word in the place of those of names, with their weights.

    Args:
        found: where they stand without the vectors, `[length]`, of `names_found`.
        start, count: where the vectors begin, and how many they are.
    """
    places = [place if place < start else place + count for place in found.nonzero().flatten().tolist()]
    places = [place for place in places if place < len(chunk)]
    return with_row(chunk, places, neutral_embedding(network)) if places else chunk


def with_names_unseen(parameters: Parameters) -> dict[str, Tensor]:
    """The same, but for finders, which find nothing."""
    return {
        name: torch.full_like(tensor, NEVER) if name.endswith(part_name("", "finder_threshold")) else tensor
        for name, tensor in parameters.items()
    }
