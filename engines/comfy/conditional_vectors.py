"""Has the text encoders of a host's CLIP make the vectors of a conditional prefix while they read a prompt.

The prompt comes with the vectors that are always the same, so that everything that asks whether a prompt carries the
prefix asks as ever. Where the network inside an encoder is about to read them, it reads them once by itself, the
meta-network makes others of what it said, and those go in their place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor

from ...prefix.errors import PrefixMismatchError
from ...prefix.meta_network import Parameters, made_vectors, network_of, positions_read

Look = Callable[[str, Tensor], None]
"""Gets an encoder's key and the states `[n, w]` that a meta-network reads, or would read."""

FirstReading = Callable[[str, Tensor, Callable[[], Tensor]], Tensor]
"""Gets an encoder's key, embeddings `[1, length, d]` behind the vectors that are always the same, and what reads them:
the states `[1, length, w]`. What depends on nothing that is learned need not be read twice."""


def _read_anew(_: str, __: Tensor, read: Callable[[], Tensor]) -> Tensor:
    return read()


@contextmanager
def vectors_made(
    encoders: Mapping[str, Any],
    parameters: Parameters,
    look: Look | None = None,
    first_reading: FirstReading = _read_anew,
) -> Iterator[Counter]:
    """Inside, prompts that come with the prefix's own vectors are read with those that are made for them.

    Differentiable in the parts of the meta-networks. Gives how many prompts, or chunks of one, each encoder was given
    vectors for, so far. Afterwards the encoders are as before.

    Args:
        encoders: see `text_encoders`.
        parameters: as the encoders' networks want them, see `vectors_for`.
        look: called with what was read; then encoders without a meta-network are looked at as well.
        first_reading: reads a prompt that comes alone, or knows what was read of it.

    Raises:
        PrefixMismatchError: an encoder's network cannot be watched, or says nothing that could be read.
    """
    made: Counter = Counter()
    with ExitStack() as hooks:
        for key, encoder in encoders.items():
            network = network_of(parameters, key)
            if key not in parameters or (network is None and look is None):
                continue
            if not hasattr(encoder.transformer, "register_forward_pre_hook"):
                raise _unread(key)
            hook = encoder.transformer.register_forward_pre_hook(
                _replacing(key, parameters[key], network, made, look, first_reading), with_kwargs=True
            )
            hooks.callback(hook.remove)
        yield made


def require_made(made: Counter, tokens: Mapping[str, Any], parameters: Parameters) -> None:
    """Raises `PrefixMismatchError` unless every chunk of a prompt was read with vectors made for it.

    Args:
        made: what `vectors_made` gave.
        tokens: of the prompt, for the host's encoders.
    """
    for key, chunks in tokens.items():
        if network_of(parameters, key) is not None and made[key] < len(chunks):
            raise _unread(key)


def _replacing(
    key: str,
    always: Tensor,
    network: Mapping[str, Tensor] | None,
    made: Counter,
    look: Look | None,
    first_reading: FirstReading,
) -> Callable[..., Any]:
    """What stands before a network: puts the vectors that are made for each row in the place of those that came."""
    reading = False

    def replace(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        embeds = kwargs.get("embeds")
        if reading or not isinstance(embeds, Tensor) or embeds.ndim != 3:
            return None
        rows, starts = places_of_vectors(embeds, always)
        if not len(rows):
            return None
        count = len(always)

        def read_states() -> Tensor:
            nonlocal reading
            reading = True
            try:
                # Hosts add to tensors in place.
                with torch.no_grad():
                    said = module(*args, **{**kwargs, "embeds": embeds.detach().clone()})
            finally:
                reading = False
            states = said[0] if isinstance(said, tuple | list) else said
            if not isinstance(states, Tensor) or states.ndim != 3 or states.shape[:2] != embeds.shape[:2]:
                raise _unread(key)
            return states

        states = first_reading(key, embeds, read_states) if len(embeds) == 1 else read_states()
        same = torch.zeros(embeds.shape[:2], dtype=torch.bool, device=embeds.device)
        same[:, 1:] = (embeds[:, 1:] == embeds[:, :-1]).all(-1)
        read = positions_read(same[rows], starts + count)
        if look is not None:
            look(key, states[rows][read].float())
        made[key] += len(rows)
        if network is None:
            return None
        vectors = made_vectors(always.to(states.device), network, states[rows], read).to(embeds)
        columns = starts[:, None] + torch.arange(count, device=embeds.device)
        replaced = embeds.index_put((rows[:, None].expand_as(columns), columns), vectors)
        return args, {**kwargs, "embeds": replaced}

    return replace


def places_of_vectors(embeds: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
    """The rows of a batch of embeddings `[n, length, d]` that hold all vectors `[m, d]`, and where they begin."""
    if embeds.shape[1] < len(vectors) or embeds.shape[2] != vectors.shape[1]:
        nothing = torch.zeros(0, dtype=torch.long, device=embeds.device)
        return nothing, nothing
    found = embeds.unfold(1, len(vectors), 1).transpose(2, 3) == vectors.detach().to(embeds)
    holding = found.all(3).all(2)
    rows = holding.any(1).nonzero().flatten()
    return rows, holding[rows].long().argmax(1)


def _unread(key: str) -> PrefixMismatchError:
    return PrefixMismatchError(
        f"Text encoder '{key}' does not say what this prefix needs to know of a prompt, so the picture would not be"
        " protected: connect the CLIP of a checkpoint straight to Anonymize Faces, or use a prefix that was learned"
        " with 'conditional' off."
    )
