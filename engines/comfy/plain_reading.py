"""Has a text encoder's network read a prompt as if nobody had put vectors into it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...prefix.meta_network import alignment, at_places

LONG_PADDING = 16
"""So many positions in a row that hold what the one before them holds are no words."""


@dataclass(frozen=True)
class Call:
    """A call of a text encoder's network with embeddings among which vectors stand.

    Attributes:
        module: the network.
        args, kwargs: what it is called with; `embeds`, `[n, length, d]`, is one of the latter.
        rows: those of the embeddings that hold vectors, `[r]`.
        starts: where these begin, `[r]`.
        count: how many they are.
    """

    module: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    rows: Tensor
    starts: Tensor
    count: int

    @property
    def embeds(self) -> Tensor:
        """What the network is called with."""
        embeds: Tensor = self.kwargs["embeds"]
        return embeds

    @property
    def is_differentiated(self) -> bool:
        """Whether words of the prompt are: vectors of an embedding. The vectors of a conditional prefix never are."""
        return torch.is_grad_enabled() and self.embeds.requires_grad


@dataclass(frozen=True)
class PlainReading:
    """How the call goes without the vectors: what stands behind them moves up, and the last of padding is repeated.

    Attributes:
        call: with the vectors.
        last: the last position of the padding; None where rows are of any length and there is none.
        masks_padding: whether what is said of padding is made zeros, as the host does with some encoders' states.
    """

    call: Call
    last: int | None
    masks_padding: bool

    @property
    def length(self) -> int:
        """Positions that are read."""
        length = self.call.embeds.shape[1]
        return length - self.call.count if self.last is None else length

    @property
    def embeds(self) -> Tensor:
        """What is read, `[n, length, d]`."""
        return self._moved(self.call.embeds)

    @property
    def same_as_before(self) -> Tensor:
        """Whether a position holds what the one before it holds, `[n, length]`."""
        return repeats(self.embeds)

    @property
    def is_inner_padding(self) -> Tensor:
        """Which positions are padding with words behind it, but for the first, `[n, length]`."""
        same = self.same_as_before
        return same if self.last is not None and self.last < self.length - 1 else torch.zeros_like(same)

    def read(self) -> Any:
        """What the network says; without gradient, unless words are differentiated."""
        call = self.call
        args, kwargs = tuple(map(self._moved, call.args)), {name: self._moved(v) for name, v in call.kwargs.items()}
        holding = set(call.rows.tolist())
        if isinstance(kwargs.get("num_tokens"), list):
            kwargs["num_tokens"] = [
                number - call.count * (row in holding) for row, number in enumerate(kwargs["num_tokens"])
            ]
        if len(call.embeds) == 1 and kwargs.get("embeds_info"):
            (start,) = call.starts.tolist()
            kwargs["embeds_info"] = [
                {**info, "index": info["index"] - call.count * (info["index"] > start)}
                for info in kwargs["embeds_info"]
                if not start <= info["index"] < start + call.count
            ]
        with torch.set_grad_enabled(call.is_differentiated):
            # Hosts add to tensors in place.
            said = call.module(*args, **{**kwargs, "embeds": self.embeds.clone()})
        return mapped(self._with_masked_padding, said)

    def beside_the_call(self, said: Any) -> Any:
        """What the network said, each position beside the one of the call that holds the same; see `alignment`."""
        call = self.call
        length = call.embeds.shape[1]
        places = torch.arange(length, device=call.starts.device).repeat(len(call.embeds), 1)
        places[call.rows] = alignment(length, call.starts, call.count, self.last)

        def beside(states: Tensor) -> Tensor:
            return at_places(states, places) if self._is_of_positions(states) else states

        return mapped(beside, said)

    def _moved(self, value: Any) -> Any:
        """What the call has for each position, for each that is read."""
        n, length = self.call.embeds.shape[:2]
        if not isinstance(value, Tensor) or value.ndim < 2 or value.shape[:2] != (n, length):
            return value
        call, last = self.call, length - 1 if self.last is None else self.last
        places = torch.arange(length, device=call.starts.device).repeat(n, 1)
        held = places[call.rows]
        moves = (held >= call.starts[:, None]) & (held <= last)
        places[call.rows] = torch.where(moves, (held + call.count).clamp_max(last), held)
        rows = torch.arange(n, device=value.device)[:, None]
        return value[rows, places[:, : self.length].to(value.device)]

    def _is_of_positions(self, states: Tensor) -> bool:
        return states.ndim >= 3 and states.shape[-2] == self.length

    def _with_masked_padding(self, states: Tensor) -> Tensor:
        if not self.masks_padding or self.last is None or not self._is_of_positions(states):
            return states
        run = self.same_as_before.flip(1).long().cumprod(1).sum(1)
        words = torch.arange(self.length, device=states.device) < (self.length - 1 - run)[:, None]
        return states * words.view(len(words), *[1] * (states.ndim - 3), self.length, 1)


def plain_reading(call: Call, *, fixed_length: bool, masks_padding: bool) -> PlainReading:
    """How a call goes without the vectors.

    Args:
        fixed_length: whether the network reads rows of one length alone, as a CLIP's does.
        masks_padding: see `PlainReading`.
    """
    n, length = call.embeds.shape[:2]
    return PlainReading(call, length - 1 if fixed_length or n > 1 else _end_of_padding(call.embeds), masks_padding)


def _end_of_padding(embeds: Tensor) -> int | None:
    """The last position of the padding in the one row of embeddings; None if there is none.

    It reaches to the end, or is long: some templates have words behind it.
    """
    run = 0
    for position, same in reversed([*enumerate(repeats(embeds)[0].tolist())]):
        if same and position == embeds.shape[1] - 1:
            return position
        run = run + 1 if same else 0
        if run == LONG_PADDING:
            return position + LONG_PADDING - 1
    return None


def mapped(change: Callable[..., Tensor], *outputs: Any) -> Any:
    """What networks returned, changed tensor by tensor; nested in tuples and lists, like each other."""
    first = outputs[0]
    if isinstance(first, tuple | list):
        return type(first)(mapped(change, *each) for each in zip(*outputs, strict=True))
    if not isinstance(first, Tensor) or not first.is_floating_point():
        return first
    return change(*outputs)


def repeats(embeds: Tensor) -> Tensor:
    """Whether a position of embeddings `[n, length, d]` holds what the one before it holds, `[n, length]`."""
    same = torch.zeros(embeds.shape[:2], dtype=torch.bool, device=embeds.device)
    same[:, 1:] = (embeds[:, 1:] == embeds[:, :-1]).all(-1)
    return same
