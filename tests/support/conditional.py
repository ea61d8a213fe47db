"""Makes conditional prefixes of random networks, for all tests."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from anonymize_faces.prefix import Prefix
from anonymize_faces.prefix.meta_network import new_network, part_name


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


def with_gates(prefix: Prefix, gate: float) -> Prefix:
    """The prefix with gates that let so much through of every prompt."""
    threshold = torch.logit(torch.tensor([gate]))
    return with_parts(prefix, threshold=threshold.clamp(-1e4, 1e4), detector=None)


def with_parts(prefix: Prefix, **parts: Tensor | None) -> Prefix:
    """The prefix with other parts in its networks; None for zeros."""
    networks = dict(prefix.networks)
    for name, tensor in prefix.networks.items():
        part = name.partition("/")[2]
        if part in parts:
            given = parts[part]
            networks[name] = torch.zeros_like(tensor) if given is None else given
    return Prefix(prefix.vectors, prefix.record, networks=networks)


def conditional(clip: Any, prefix: Prefix, seed: int = 0) -> Prefix:
    """The prefix with random networks that fit a CLIP of the host."""
    from anonymize_faces.engines.comfy.conditional_vectors import states_read
    from anonymize_faces.engines.comfy.text_encoders import text_encoders, vectors_for
    from anonymize_faces.prefix import inject_text

    stage = clip.cond_stage_model
    encoders = text_encoders(stage)
    vectors = vectors_for(encoders, prefix.vectors)
    said: dict[str, list[Tensor]] = {}
    for text in ("a portrait of Ada Example", "a red circle", "mountains at dawn, by the sea"):
        tokens = inject_text(lambda words: clip.tokenize(words, return_word_ids=True), text, vectors, encoders)
        with torch.no_grad():
            (read,) = states_read(encoders, vectors, [tokens], stage.encode_token_weights)
            for key, states in read.items():
                said.setdefault(key, []).append(states)
    # Others are read only where something stands in quotation marks; the trainer gives them no vectors.
    fixed = Prefix({key: rows for key, rows in prefix.vectors.items() if key in said}, prefix.record)
    return with_random_networks(fixed, {key: torch.cat(states) for key, states in said.items()}, seed)
