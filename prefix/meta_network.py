"""Makes the vectors of a conditional prefix, anew for each prompt.

A fixed prefix says the same before every prompt, and so it must undo what all names say, those that it never met among
them, with one set of vectors; a conditional one answers to what the prompt says. The text encoder first reads the
prompt alone. Of its last states a small network, the *meta-network*, makes the vectors that the encoder then reads
before the prompt. The idea, and that it serves names better that were not learned from, is CoCoOp's (Zhou et al., CVPR
2022, arXiv 2203.05557, 3.2); there the network sees a picture, here it sees the prompt itself. A *gate* tells by the
same states whether the prompt names anybody, and lets the second reading take the place of the first as far as it does.

The parameters of a prefix stand in one table by name: under an encoder's key its vectors `[m, d]`, and under
`key/part` the parts of its meta-network, for encoders that have one. With states `s` of width `w`, standardized, at the
positions that are read (docs/METHODS.md 2.9):

    attention_i = softmax(queries_i · keysᵀ s)        i = 1 … m, over positions
    features_i  = GELU(hidden (values (attention_i s)))
    vectors_i   = always_i + spread · (offset_i + outputs_i features_i)
    gate        = σ(max(min(threshold + detector · s, near)))    over positions
    near        = STEEP (1 − √(|s − middle|² / reach² − |axesᵀ (s − middle)|²))

The last tells how near a position lies to people's names (`NEAR`, where a prefix has it), and is asked of prompts of
words alone: vectors of the user's own beside a name could move it anywhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .errors import PrefixValueError

MATRICES = ("queries", "keys", "values", "hidden", "outputs")
"""Parts that are learned and are matrices, or stacks of them."""

LEARNED = (*MATRICES, "offset")
"""Parts that are learned."""

FIXED = ("mean", "deviation", "spread", "detector", "threshold")
"""Parts that are set before learning: of the states, of the encoder's token embeddings, and of the gate."""

NAMES = ("finder", "finder_threshold", "word_mean", "word_deviation", "neutral")
"""Parts of a network that also finds the words of names (`prefix.name_words`), of which the last is learned; all or
none."""

NEAR = ("middle", "axes", "reach")
"""Parts of a network whose gate opens near people's names alone, fixed; all or none."""

IN_WORDS = ("spread", "word_mean", "word_deviation")
"""Parts that have the scale of an encoder's token embeddings."""

FEATURES = 64
"""Width of what is read off the states for each vector."""

CLOSED_BELOW = 0.2
"""A gate that is open less than this is closed, for so little would protect nobody: prompts that name nobody are read
exactly as without a prefix."""

STEEP = 36.0
"""How fast a gate closes with the distance from people's names: at five sixths of its reach it is open but for 1 in
400, beyond 1.04 of it closed."""

WIDE_OPEN = 1e4
"""A threshold, and a reach, at which the gate lets everything through, whatever a prompt says."""

_SEPARATOR = "/"

Parameters = Mapping[str, Tensor]
"""Vectors `[m, d]` by encoder key, and parts of meta-networks by `key/part`."""


def vectors_of(parameters: Parameters) -> dict[str, Tensor]:
    """The vectors alone, by encoder key."""
    return {name: tensor for name, tensor in parameters.items() if _SEPARATOR not in name}


def network_of(parameters: Parameters, key: str) -> dict[str, Tensor] | None:
    """The parts of an encoder's meta-network, by name; None if its vectors are always the same."""
    start = key + _SEPARATOR
    return {name.removeprefix(start): part for name, part in parameters.items() if name.startswith(start)} or None


def is_conditional(parameters: Parameters) -> bool:
    """Whether the vectors are made for each prompt."""
    return any(_SEPARATOR in name for name in parameters)


def part_name(key: str, part: str) -> str:
    """The name of a part among a prefix's parameters."""
    return key + _SEPARATOR + part


def is_part(name: str) -> bool:
    """Whether this is the name of a part of a meta-network, and not of an encoder's vectors."""
    return _SEPARATOR in name


def name_of_part(name: str) -> str:
    """What a part is called in its own network; empty for an encoder's vectors."""
    return name.rpartition(_SEPARATOR)[2] if is_part(name) else ""


def is_learned(name: str) -> bool:
    """Whether this is the name of a part of a meta-network that is learned."""
    return name_of_part(name) in (*LEARNED, NAMES[-1])


def is_matrices(name: str) -> bool:
    """Whether this is the name of a part that multiplies what is read."""
    return name_of_part(name) in MATRICES


def new_network(vectors: Tensor, states: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
    """The parts of a meta-network before learning, its gate wide open; those that are learned require gradients.

    Args:
        vectors: the encoder's, that the prompt is read behind, `[m, d]`, spread like its token embeddings.
        states: `[n, w]` that the encoder says of prompts, for their mean and deviation.
    """
    count, width = vectors.shape
    wide = states.shape[1]

    def random(*shape: int, size: float) -> Tensor:
        return size * torch.randn(shape, generator=generator)

    learned = {
        "queries": random(count, FEATURES, size=0.3),
        "keys": random(wide, FEATURES, size=wide**-0.5),
        "values": random(wide, FEATURES, size=wide**-0.5),
        "hidden": random(FEATURES, FEATURES, size=FEATURES**-0.5),
        "outputs": random(count, FEATURES, width, size=0.3 * FEATURES**-0.5),
        "offset": torch.zeros(count, width),
    }
    return {name: part.requires_grad_() for name, part in learned.items()} | {
        "mean": states.mean(0),
        "deviation": states.std(0).clamp_min(1e-3 * float(states.std())),
        "spread": vectors.detach().std().reshape(1),
        "detector": torch.zeros(wide),
        "threshold": torch.full((1,), WIDE_OPEN),
    }


def standardized(network: Mapping[str, Tensor], states: Tensor) -> Tensor:
    """What is read, `[..., w]` float32, of states."""
    return (states.float() - network["mean"]) / network["deviation"]


class Made(NamedTuple):
    """What a meta-network makes of prompts.

    Attributes:
        vectors: for each of them, `[n, m, d]`.
        gates: how much of what the encoder says with these vectors takes the place of what it says without, `[n]`, from
            0 (nothing: the prompt is nobody's name) to 1.
    """

    vectors: Tensor
    gates: Tensor


def made_vectors(
    always: Tensor,
    network: Mapping[str, Tensor],
    states: Tensor,
    read: Tensor,
    words_alone: Sequence[bool] | None = None,
) -> Made:
    """What is made for each prompt; differentiable in the parts that are learned.

    Args:
        always: those that the made ones are counted from, `[m, d]`, as the encoder's network takes them.
        states: what it says of the prompts without vectors, `[n, length, w]`.
        read: the positions that count, `[n, length]`; at least one of each prompt.
        words_alone: which prompts are known to hold words and nothing else; of others the gate is the wider one.
    """
    parts = {name: part.to(states.device) for name, part in network.items()}
    said = standardized(parts, states)
    change = parts["offset"] + torch.einsum("nmh,mhd->nmd", features_read(parts, said, read), parts["outputs"])
    names = likeness_to_people(parts, said, words_alone or [False] * len(said))
    gates = torch.sigmoid(names.masked_fill(~read, float("-inf")).amax(1))
    gates = torch.where(gates < CLOSED_BELOW, 0.0, gates)
    return Made(always.float() + parts["spread"] * change, gates)


def likeness_to_people(network: Mapping[str, Tensor], said: Tensor, words_alone: Sequence[bool]) -> Tensor:
    """How like somebody's name each position of prompts is to the gate, `[n, length]`; of 0 it is half open.

    Args:
        network: on the device of the states.
        said: standardized states of the prompts, `[n, length, w]`.
        words_alone: see `made_vectors`.
    """
    names = network["threshold"] + said @ network["detector"]
    if "reach" not in network or not any(words_alone):
        return names
    are_words = torch.tensor(words_alone, dtype=torch.bool, device=names.device)[:, None]
    return torch.where(are_words, torch.minimum(names, _nearness(network, said)), names)


def _nearness(network: Mapping[str, Tensor], said: Tensor) -> Tensor:
    """How near each position lies to people's names, `[n, length]`; 0 at the reach of the gate."""
    away = said - network["middle"]
    squares = away.square().sum(-1) / network["reach"].square() - (away @ network["axes"]).square().sum(-1)
    return STEEP * (1 - squares.clamp_min(1e-12).sqrt())


def features_read(network: Mapping[str, Tensor], said: Tensor, read: Tensor) -> Tensor:
    """What is read of each prompt for each vector, `[n, m, features]`.

    Args:
        said: standardized states of the prompts, `[n, length, w]`.
        read: the positions that count, `[n, length]`; at least one of each prompt.
    """
    scores = torch.einsum("mh,nlh->nml", network["queries"], said @ network["keys"])
    attention = scores.masked_fill(~read[:, None], float("-inf")).softmax(-1)
    return torch.nn.functional.gelu(attention @ (said @ network["values"]) @ network["hidden"])


def with_open_gates(parameters: Parameters) -> dict[str, Tensor]:
    """The same, but for gates, which let everything through."""
    wide_open = (part_name("", "threshold"), part_name("", "reach"))
    return {
        name: torch.full_like(tensor, WIDE_OPEN) if name.endswith(wide_open) else tensor
        for name, tensor in parameters.items()
    }


def alignment(length: int, starts: Tensor, count: int, last: int | None) -> Tensor:
    """Which position of a prompt read without vectors stands beside each position of it read with them, `[n, length]`.

    Every word stands beside itself, so that weights of words stay theirs. Beside the vectors stands the padding that
    gave way to them: to whatever attends to all positions alike the prompt says exactly what it says without vectors.

    Args:
        length: of the prompt with vectors.
        starts: where these begin, `[n]`.
        count: how many they are.
        last: the last position of the padding; None where there is none, and the prompt without vectors is shorter:
            then the position that they stand before is repeated.
    """
    places, start = torch.arange(length, device=starts.device)[None], starts[:, None]
    if last is None:
        beside, last = start.clamp_max(length - count - 1), length - 1
    else:
        beside = last - count + 1 + places - start
    behind = torch.where(places <= last, places - count, places)
    return torch.where(places < start, places, torch.where(places < start + count, beside, behind))


def at_places(states: Tensor, places: Tensor) -> Tensor:
    """States `[n, ..., length, w]` at places `[n, other length]`."""
    index = places.to(states.device).view(len(places), *[1] * (states.ndim - 3), -1, 1)
    return states.take_along_dim(index.expand(*states.shape[:-2], -1, states.shape[-1]), -2)


def blended_by_row(plain: Tensor, protected: Tensor, gates: Tensor) -> Tensor:
    """What an encoder says of prompts, `[n, ...]`, each from plain (gate 0) to protected (1) by its gate, `[n]`."""
    return torch.lerp(plain.to(protected), protected, gates.to(protected).view(-1, *[1] * (protected.ndim - 1)))


def positions_read(same_as_before: Tensor, after: Tensor) -> Tensor:
    """The positions of prompts that a meta-network reads: from where vectors would stand to the first of the padding.

    Padding is told by its tokens alone, so that it is the same in every host: whatever ends a prompt in a row of equal
    tokens.

    Args:
        same_as_before: whether a position holds what the one before it holds, `[n, length]`.
        after: index of the first position that counts, `[n]`: where the vectors would stand.
    """
    length = same_as_before.shape[1]
    padding = same_as_before.flip(1).long().cumprod(1).sum(1)
    last = torch.maximum(length - 1 - padding, after.clamp_max(length - 1))
    places = torch.arange(length, device=same_as_before.device)
    return (places >= after[:, None]) & (places <= last[:, None])


def require_networks(parameters: Parameters) -> None:
    """Raises `PrefixValueError` unless every part fits the others, is finite float32, and none is missing."""
    vectors = vectors_of(parameters)
    for name in parameters:
        key, _, part = name.partition(_SEPARATOR)
        if _SEPARATOR in name and (key not in vectors or part not in LEARNED + FIXED + NAMES + NEAR):
            raise PrefixValueError(f"It holds '{name}', which is no part of a prefix.")
    for key, always in vectors.items():
        network = network_of(parameters, key)
        if network is None:
            raise PrefixValueError(f"Its vectors for text encoder '{key}' lack the network that makes them.")
        wanted: tuple[str, ...] = LEARNED + FIXED
        for group in (NAMES, NEAR):
            wanted += group if any(part in network for part in group) else ()
        missing = [part for part in wanted if part not in network]
        if missing:
            raise PrefixValueError(f"The network for text encoder '{key}' lacks {', '.join(missing)}.")
        count, width = always.shape
        axes = network["axes"].shape[-1] if "axes" in network and network["axes"].ndim == 2 else 0
        wide, features = network["keys"].shape if network["keys"].ndim == 2 else (0, 0)
        shapes = {
            "queries": (count, features),
            "keys": (wide, features),
            "values": (wide, features),
            "hidden": (features, features),
            "outputs": (count, features, width),
            "offset": (count, width),
            "mean": (wide,),
            "deviation": (wide,),
            "spread": (1,),
            "detector": (wide,),
            "threshold": (1,),
            "finder": (wide + width,),
            "finder_threshold": (2,),
            "word_mean": (width,),
            "word_deviation": (width,),
            "neutral": (width,),
            "middle": (wide,),
            "axes": (wide, axes),
            "reach": (1,),
        }
        for part, tensor in network.items():
            if tensor.dtype != torch.float32 or tensor.layout != torch.strided or 0 in tensor.shape:
                raise PrefixValueError(f"The {part} of the network for text encoder '{key}' must be float32 numbers.")
            if tuple(tensor.shape) != shapes[part]:
                raise PrefixValueError(
                    f"The {part} of the network for text encoder '{key}' are {list(tensor.shape)}, and must be"
                    f" {list(shapes[part])}."
                )
            if not bool(torch.isfinite(tensor).all()):
                raise PrefixValueError(f"The {part} of the network for text encoder '{key}' are not finite.")
        for part in ("deviation", "word_deviation", "reach"):
            if part in network and not bool((network[part] > 0).all()):
                raise PrefixValueError(f"The {part} of the network for text encoder '{key}' must be above zero.")
