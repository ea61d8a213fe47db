"""Has a text encoder's network read a prompt as if nobody had put vectors into it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


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
        """What the network is called with, without gradient."""
        return self.kwargs["embeds"].detach()


@dataclass(frozen=True)
class PlainReading:
    """How the call goes without the vectors: what stands behind them moves up, and the last position is repeated.

    Attributes:
        call: with the vectors.
        places: of which position of the call each one is, `[n, length]`.
        kept: positions that the network reads. Where rows may be of any length and are not padded, the prompt alone is
            shorter; else padding is repeated.
        masks_padding: whether what is said of padding is made zeros, as the host does with some encoders' states.
    """

    call: Call
    places: Tensor
    kept: int
    masks_padding: bool

    @property
    def embeds(self) -> Tensor:
        """What is read, at the length of the call."""
        return _taken(self.call.embeds, self.places)

    @property
    def same_as_before(self) -> Tensor:
        """Whether a position holds what the one before it holds, `[n, length]`."""
        return _same_as_before(self.embeds)

    def read(self) -> Any:
        """What the network says, every tensor of states at the length of the call; without gradient."""
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
        with torch.no_grad():
            # Hosts add to tensors in place.
            said = call.module(*args, **{**kwargs, "embeds": self.embeds[:, : self.kept].clone()})
        return mapped(self._at_full_length, said)

    def _moved(self, value: Any) -> Any:
        shape = self.call.embeds.shape[:2]
        if not isinstance(value, Tensor) or value.ndim < 2 or value.shape[:2] != shape:
            return value
        return _taken(value, self.places)[:, : self.kept]

    def _at_full_length(self, states: Tensor) -> Tensor:
        if states.ndim < 3 or states.shape[-2] != self.kept:
            return states
        length = self.places.shape[1]
        if self.kept < length:
            return torch.cat([states, states[..., -1:, :].repeat_interleave(length - self.kept, -2)], -2)
        if not self.masks_padding:
            return states
        run = self.same_as_before.flip(1).long().cumprod(1).sum(1)
        words = torch.arange(length, device=states.device) < (length - 1 - run)[:, None]
        return states * words.view(len(words), *[1] * (states.ndim - 3), length, 1)


def plain_reading(call: Call, *, fixed_length: bool, masks_padding: bool) -> PlainReading:
    """How a call goes without the vectors.

    Args:
        fixed_length: whether the network reads rows of one length alone, as a CLIP's does.
        masks_padding: see `PlainReading`.
    """
    n, length = call.embeds.shape[:2]
    places = torch.arange(length, device=call.embeds.device).repeat(n, 1)
    places[call.rows] += call.count * (places[call.rows] >= call.starts[:, None])
    places = places.clamp_max(length - 1)
    is_padded = fixed_length or n > 1 or bool(_same_as_before(call.embeds)[0, -1])
    return PlainReading(call, places, length if is_padded else length - call.count, masks_padding)


def mapped(change: Callable[..., Tensor], *outputs: Any) -> Any:
    """What networks returned, changed tensor by tensor; nested in tuples and lists, like each other."""
    first = outputs[0]
    if isinstance(first, tuple | list):
        return type(first)(mapped(change, *each) for each in zip(*outputs, strict=True))
    if not isinstance(first, Tensor) or not first.is_floating_point():
        return first
    return change(*outputs)


def _taken(value: Tensor, places: Tensor) -> Tensor:
    rows = torch.arange(len(places), device=value.device)[:, None]
    return value[rows, places.to(value.device)]


def _same_as_before(embeds: Tensor) -> Tensor:
    same = torch.zeros(embeds.shape[:2], dtype=torch.bool, device=embeds.device)
    same[:, 1:] = (embeds[:, 1:] == embeds[:, :-1]).all(-1)
    return same
