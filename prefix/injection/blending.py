"""Blends conditionings from plain to protected, by the strength of a prefix.

A conditioning is `[..., length, d]`. With the prefix it may be longer: the prefix has positions of its own, if there is
no padding that gave way to it. Those have no counterpart in the plain one. They start from the plain state that they
stand before, so that near 0 the conditioning says nothing that the plain one does not say.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..errors import AnonymizationError, PrefixMismatchError


def require_strength(strength: float) -> None:
    """Raises `AnonymizationError` unless this is a strength."""
    if not 0.0 <= strength <= 1.0:
        raise AnonymizationError(f"Strength {strength} is out of range: choose 0 (plain) to 1 (protected).")


def blend(plain: tuple[Any, ...], protected: tuple[Any, ...], strength: float) -> tuple[Any, ...]:
    """What the host's encoders return, on the straight line from plain (0) to protected (1).

    Args:
        plain, protected: conditioning `[1, length, d]`, pooled output `[1, d]` or None, and maybe a mapping of extras:
            of these, further conditionings (`[..., length, d]`, floating-point) move likewise; what else there is, such
            as attention masks, is the protected one's, whose positions it describes.

    Raises:
        PrefixMismatchError: the protected conditioning is shorter than the plain one.
    """
    conditioning = _blend_states(plain[0], protected[0], strength)
    pooled = None if protected[1] is None else torch.lerp(plain[1], protected[1], strength)
    extras = (_blend_extras(*pair, strength) for pair in zip(plain[2:], protected[2:], strict=True))
    return (conditioning, pooled, *extras)


def _blend_extras(plain: Mapping[str, Any], protected: Mapping[str, Any], strength: float) -> dict[str, Any]:
    return {
        key: _blend_states(plain[key], value, strength) if _is_conditioning(value) else value
        for key, value in protected.items()
    }


def _is_conditioning(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point() and value.ndim >= 3


def _blend_states(plain: Tensor, protected: Tensor, strength: float) -> Tensor:
    return torch.lerp(_stretched(plain, protected), protected, strength)


def _stretched(plain: Tensor, protected: Tensor) -> Tensor:
    """The plain states, as long as the protected ones: one of them is repeated where the prefix stands.

    That place is the one at which taking the surplus out of the protected states leaves them nearest to the plain ones:
    what an encoder cuts off, and what pictures in a prompt expand to, need not be known.
    """
    length, surplus = plain.shape[-2], protected.shape[-2] - plain.shape[-2]
    if surplus == 0:
        return plain
    if surplus < 0 or length == 0:
        raise PrefixMismatchError(
            "With the prefix this text encoder says less than without it, so the two cannot be blended: set strength"
            " to 1 or 0."
        )
    before = _distances(plain, protected[..., :length, :]).cumsum(0)
    after = _distances(plain, protected[..., surplus:, :]).flip(0).cumsum(0).flip(0)
    zero = before.new_zeros(1)
    place = int(torch.argmin(torch.cat([zero, before]) + torch.cat([after, zero])))
    repeated = plain[..., min(place, length - 1), :].unsqueeze(-2)
    filling = repeated.expand(*plain.shape[:-2], surplus, plain.shape[-1])
    return torch.cat([plain[..., :place, :], filling, plain[..., place:, :]], dim=-2)


def _distances(one: Tensor, other: Tensor) -> Tensor:
    """Squared distance at each position, `[length]`."""
    squares = (one.detach() - other.detach()).double().square().sum(-1)
    return squares.reshape(-1, squares.shape[-1]).sum(0)
