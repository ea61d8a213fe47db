"""Makes conditional prefixes of random networks, for all tests."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from anonymize_faces.engines.denoiser import PromptStates
from anonymize_faces.engines.starting.finder import differs
from anonymize_faces.prefix import Prefix
from anonymize_faces.prefix.meta_network import new_network, part_name

NAMED, UNNAMED, NOBODY = "a portrait of Ada Lovelace", "a portrait of a person", "a lighthouse by the sea"
"""Prompts that a finder of names is fitted to, the first two of which differ in the name alone."""


def with_random_networks(prefix: Prefix, states: dict[str, Tensor], seed: int = 0) -> Prefix:
    """The prefix with networks that make other vectors of what is said of a prompt, and gates that are wide open.

    Args:
        states: `[n, w]` that each text encoder says of prompts.
    """
    generator = torch.Generator().manual_seed(seed)
    networks = {
        part_name(key, part): tensor.detach()
        for key, rows in prefix.vectors.items()
        for part, tensor in new_network(rows, states[key], generator).items()
    }
    return Prefix(prefix.vectors, prefix.record, networks=networks)


def finding_names(prefix: Prefix, read: dict[str, tuple[Tensor, Tensor, Tensor]]) -> Prefix:
    """The prefix with networks that find one of the words of a name, and no other words of these prompts.

    Args:
        read: embeddings that each text encoder reads of `NAMED`, `UNNAMED` and `NOBODY`.
    """
    networks = dict(prefix.networks)
    for key, (named, unnamed, nobody) in read.items():
        every = torch.cat([named, unnamed, nobody])
        mean, deviation = every.mean(0), every.std(0)
        seen = [(rows - mean) / deviation for rows in (named, unnamed, nobody)]
        names = torch.unique(seen[0][differs(named, unnamed)], dim=0)
        finder, threshold = _unlike(names, torch.cat(seen[1:]))
        wide = len(prefix.networks[part_name(key, "mean")])
        parts = {
            "finder": torch.cat([torch.zeros(wide), finder]),
            "finder_threshold": torch.tensor([threshold, -100.0]),
            "word_mean": mean,
            "word_deviation": deviation,
            "neutral": torch.randn(len(mean), generator=torch.Generator().manual_seed(1)),
        }
        networks |= {part_name(key, part): tensor for part, tensor in parts.items()}
    return Prefix(prefix.vectors, prefix.record, networks=networks)


def _unlike(names: Tensor, words: Tensor) -> tuple[Tensor, float]:
    """A direction and a threshold that part the one of the names that is least like all other words from these."""
    alike = names @ torch.cat([names, words]).T / names.square().sum(1, keepdim=True)
    alike[:, : len(names)].fill_diagonal_(-torch.inf)
    nearest = alike.amax(1)
    found = names[nearest.argmin()]
    assert float(nearest.min()) < 0.9, "names cannot be told from other words"
    return found, -float((1 + nearest.min()) / 2 * found.square().sum())


def with_gates(prefix: Prefix, gate: float) -> Prefix:
    """The prefix with gates that let so much through of every prompt."""
    threshold = torch.logit(torch.tensor([gate]))
    return with_parts(prefix, threshold=threshold.clamp(-1e4, 1e4), detector=None)


def far_from_all_names(prefix: Prefix) -> Prefix:
    """The prefix with gates that are wide open but for words, all of which lie far from people's names."""
    networks = dict(prefix.networks)
    for key in prefix.vectors:
        wide = len(prefix.networks[part_name(key, "mean")])
        near = {"middle": torch.full((wide,), 50.0), "axes": torch.zeros(wide, 1), "reach": torch.ones(1)}
        networks |= {part_name(key, part): tensor for part, tensor in near.items()}
    return Prefix(prefix.vectors, prefix.record, networks=networks)


def with_parts(prefix: Prefix, **parts: Tensor | None) -> Prefix:
    """The prefix with other parts in its networks; None for zeros."""
    networks = dict(prefix.networks)
    for name, tensor in prefix.networks.items():
        part = name.partition("/")[2]
        if part in parts:
            given = parts[part]
            networks[name] = torch.zeros_like(tensor) if given is None else given
    return Prefix(prefix.vectors, prefix.record, networks=networks)


def conditional(clip: Any, prefix: Prefix, seed: int = 0, finds: bool = False) -> Prefix:
    """The prefix with random networks that fit a CLIP of the host.

    Args:
        finds: whether they find the words of names.
    """
    from anonymize_faces.engines.comfy.conditional_vectors import states_read
    from anonymize_faces.engines.comfy.text_encoders import text_encoders, vectors_for
    from anonymize_faces.prefix import inject_text

    stage = clip.cond_stage_model
    encoders = text_encoders(stage)
    vectors = vectors_for(encoders, prefix.vectors)
    said: dict[str, list[PromptStates]] = {}
    for text in ("a portrait of Ada Example", "a red circle", "mountains at dawn, by the sea", NAMED, UNNAMED, NOBODY):
        tokens = inject_text(lambda words: clip.tokenize(words, return_word_ids=True), text, vectors, encoders)
        with torch.no_grad():
            (read,) = states_read(encoders, vectors, [tokens], stage.encode_token_weights)
            for key, states in read.items():
                said.setdefault(key, []).append(states)
    # Others are read only where something stands in quotation marks; the trainer gives them no vectors.
    fixed = Prefix({key: rows for key, rows in prefix.vectors.items() if key in said}, prefix.record)
    first = {key: torch.cat([prompt.states for prompt in prompts[:3]]) for key, prompts in said.items()}
    made = with_random_networks(fixed, first, seed)
    return (
        finding_names(made, {key: tuple(prompt.words for prompt in prompts[3:]) for key, prompts in said.items()})
        if finds
        else made
    )
