"""Makes vectors that take the place of tokens, what makes such vectors for each prompt, and the optimizer for both."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..prefix.errors import TrainingError
from ..prefix.files.storage import MAX_FILE_BYTES
from ..prefix.meta_network import (
    is_conditional,
    is_learned,
    is_matrices,
    is_part,
    made_vectors,
    network_of,
    new_network,
    part_name,
    standardized,
    vectors_of,
)
from .denoiser import Denoiser, PromptStates, Vectors
from .micro_batches import MicroBatches
from .muon import AdamAndMuon
from .starting.finder import fitted_finder
from .starting.gates import fitted_gate, fitted_nearness
from .starting.prompts import FirstPrompts
from .starting.reading import begin_at_descriptions

CLIP_SPREAD = 0.014
"""Standard deviation of the token embeddings of SD1's CLIP, for which learning rates are told; T5's is about 1."""

NETWORK_RATE = 0.02
"""Peak rate of the parts of a meta-network, as a multiple of that of vectors spread like 1."""

MATRIX_RATE = 5 * NETWORK_RATE
"""The same of those that are matrices. Muon's step is a fifth of its rate, so that both move by as much."""

EPSILON = 1e-8
"""Adam's, for gradients with respect to embeddings of that spread."""


def new_vectors(denoiser: Denoiser, words: str, count: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Parameters `{encoder key: [count, d]}` that start from words, repeated as needed, or at random without words.

    Raises:
        TrainingError: a text encoder reads no token in the words.
    """
    vectors = {}
    for key, embeddings in denoiser.token_embeddings(words).items():
        if not len(embeddings):
            raise TrainingError(
                f"Text encoder '{key}' reads nothing in '{words}', the words to start from: write others, or none."
            )
        if words.strip():
            start = embeddings[[index % len(embeddings) for index in range(count)]].clone()
        else:
            noise = torch.randn(count, embeddings.shape[1], generator=generator)
            start = embeddings.mean(0) + embeddings.std(0) * noise
        vectors[key] = start.requires_grad_()
    return vectors


def with_networks(
    denoiser: Denoiser,
    vectors: Vectors,
    prompts: FirstPrompts,
    generator: torch.Generator,
    micro_batches: MicroBatches | None = None,
    report: Callable[[int], None] = lambda read: None,
    began: Callable[[bool], None] = lambda at_descriptions: None,
) -> dict[str, Tensor]:
    """The parameters of a conditional prefix before learning: fixed vectors, and networks that make others of them.

    Inside `Denoiser.gradients`. See `prefix.meta_network`. What the text encoders say of the prompts sets the scale of
    what the networks read, their gates, what they begin at, and how words of names are found: where vectors say
    the descriptions of others too, or there are none to be said.

    Args:
        vectors: that the made ones are counted from, `{encoder key: [m, d]}`.
        prompts: that all this is taken from.
        micro_batches: how many prompts are read before the next look at whether to go on; all at once without.
        report: called with how many have been read so far.
        began: called for each text encoder with whether its vectors begin at descriptions, or at random; not at all
            where no prompt has one, or all have the same.

    Raises:
        TrainingError: a text encoder does not let its states be read, or there are too many vectors for a file.
    """
    fixed = {key: rows.detach() for key, rows in vectors.items()}
    said: list[dict[str, PromptStates]] = []

    def read(some: Sequence[str]) -> None:
        said.extend(denoiser.states_read(some, fixed))
        report(len(said))

    (micro_batches or MicroBatches(denoiser, len(prompts.all))).work(read, prompts.all)
    words_of = {
        words: {key: table[: len(fixed[key])].clone() for key, table in denoiser.token_embeddings(words).items()}
        for words in dict.fromkeys(prompts.described)
        if words
    }
    named = len(prompts.named)
    anybody = denoiser.token_embeddings(prompts.anybody)
    parameters = dict(fixed)
    for key, rows in fixed.items():
        states = [prompt[key] for prompt in said if key in prompt]
        if len(states) < len(said) or not all(bool(torch.isfinite(some.states).all()) for some in states):
            raise TrainingError(
                f"Text encoder '{key}' does not let its states be read, which a conditional prefix is made of: switch"
                " 'conditional' off."
            )
        network = new_network(rows, torch.cat([some.states for some in states]), generator)
        known = [some._replace(states=standardized(network, some.states)) for some in states]
        seen = [some.states for some in known]
        network |= fitted_gate(seen[:named], seen[named : named + len(prompts.others)])
        network |= fitted_nearness(network["detector"], seen[:named], prompts.whom)
        described = [words_of[words][key] if words else rows[:0] for words in prompts.described]
        if any(map(len, described)):
            at_descriptions = begin_at_descriptions(network, rows, seen[:named], described, prompts.whom, generator)
            if not prompts.described_alike:
                began(at_descriptions)
            if any(prompts.twins) and (at_descriptions or prompts.described_alike):
                of = dict(zip(prompts.all, known, strict=True))
                pairs = [(of[one], of[twin]) for one, twin in zip(prompts.named, prompts.twins, strict=True) if twin]
                network |= fitted_finder(network, pairs, [of[one] for one in prompts.others], anybody[key])
        parameters |= {part_name(key, part): tensor for part, tensor in network.items()}
    if sum(4 * tensor.numel() for tensor in parameters.values()) > MAX_FILE_BYTES:
        raise TrainingError(
            "What makes so many vectors for each prompt would not fit into a prefix file: set vectors lower, or switch"
            " 'conditional' off."
        )
    return parameters


def gates_of(denoiser: Denoiser, parameters: Vectors, prompts: Sequence[str]) -> list[float]:
    """How far each prompt's gate is open in the text encoder that opens it least; inside `Denoiser.gradients`.

    1 where the vectors are always the same.
    """
    fixed = {key: rows.detach() for key, rows in vectors_of(parameters).items()}
    networks = {key: network_of(parameters, key) for key in fixed}
    if not is_conditional(parameters):
        return [1.0] * len(prompts)
    gates = []
    for said in denoiser.states_read(prompts, fixed):
        made = [
            made_vectors(fixed[key], network, states[None], torch.ones(1, len(states), dtype=torch.bool), [True])
            for key, (states, _) in said.items()
            if (network := networks[key]) is not None
        ]
        gates.append(min((float(each.gates) for each in made), default=1.0))
    return gates


def as_begun(saved: Mapping[str, Tensor], names: Sequence[str]) -> dict[str, Tensor]:
    """The parameters of a conditional prefix that `with_networks` gave, of copies that were saved.

    Args:
        names: of the parameters, in their order.
    """
    return {name: saved[name].requires_grad_(is_learned(name)) for name in names}


def learned(parameters: Vectors) -> tuple[Tensor, ...]:
    """Those that are learned."""
    return tuple(tensor for tensor in parameters.values() if tensor.requires_grad)


def scale_free_adam(vectors: Mapping[str, Tensor], rate: float) -> torch.optim.Adam:
    """Adam whose steps do not depend on how widely an encoder's embeddings are spread (docs/METHODS.md 2.5).

    Where embeddings, and the prefix among them, are multiplied by a number and divided by it where they are read, the
    gradient is divided by it. Adam moves by its rate whatever the size of the gradient, so the rate is multiplied by
    the spread; and its ε, which is added to the size of the gradient, is divided by it.

    What makes vectors for each prompt has no scale of the embeddings: it is multiplied by their spread. Its matrices
    take Muon's steps (`muon`).

    Args:
        vectors: those that are learned are one group of the optimizer each, with its peak rate as `peak`.
        rate: peak rate as a multiple of the spread.
    """
    groups = []
    for name, vector in vectors.items():
        if not vector.requires_grad:
            continue
        matrices = is_matrices(name)
        group = scale_free_group(vector, rate)
        if is_part(name):
            size = MATRIX_RATE if matrices else NETWORK_RATE
            group |= {"peak": rate * size, "eps": EPSILON * CLIP_SPREAD}
        groups.append(group | {"matrices": matrices})
    return AdamAndMuon(groups)


def scale_free_group(vector: Tensor, rate: float) -> dict[str, Any]:
    """Adam's group of an embedding alone; see `scale_free_adam`."""
    spread = float(vector.detach().std()) or CLIP_SPREAD
    return {"params": [vector], "peak": rate * spread, "eps": EPSILON * CLIP_SPREAD / spread}
