"""Checks what a node was given, against its own schema, before the node does anything with it.

The host checks before a run only what it can see: values in fields, and the types of wires between nodes that say what
they hand on. What is left (a value where a wire belongs, numbers that come by a wire, NaN, a choice that an older host
does not look up) would end in an error of Python's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from functools import wraps
from numbers import Integral, Real
from typing import Any

from torch import Tensor

from ...experts.value import Experts
from ...prefix import AnonymizationError, Prefix
from ...trainer.data.identities import Identity
from .interface import ExpertsSocket, IdentitiesSocket, PrefixSocket

LONGEST = 60
"""Characters of somebody's value that an error quotes."""


class InputError(AnonymizationError):
    """A node was given something that its input does not take."""


def checked(*files: str, lists: Collection[str] = ()) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Makes a node's `execute` refuse what its schema does not allow, with an `InputError`.

    Args:
        files: inputs that choose a file. Whether it is there is told by whoever opens it, in better words.
        lists: of a node that the host hands lists (`is_input_list`), the inputs that take them whole, as tuples. Of all
            others there must be one value, which is handed on.
    """

    def wrap(execute: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(execute)
        def run(cls: Any, **given: Any) -> Any:
            spec = cls.INPUT_TYPES()
            if lists:
                given = {n: tuple(values) if n in lists else _only(n, values) for n, values in given.items()}
            for name, value in given.items():
                if name not in files:
                    for one in value if name in lists else (value,):
                        _require(spec, name, one)
            return execute(cls, **given)

        return run

    return wrap


def _only(name: str, values: Any) -> Any:
    """The one value of a list that the host made of an input."""
    if not isinstance(values, list):
        return values
    if len(values) != 1:
        raise InputError(f"'{name}' takes one value and was given a list of {len(values)}: connect one that stays.")
    return values[0]


def quoted(value: Any) -> str:
    """A value as an error may name it: short, in words that are not Python's."""
    if value is None:
        return "nothing"
    if isinstance(value, str):
        return f"'{value[:LONGEST]}{'…' if len(value) > LONGEST else ''}'"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Real):
        return f"the number {value:.6g}" if _is_finite(value) else "a number that is none or too large"
    if isinstance(value, list | tuple):
        return "a list"
    return "a table" if isinstance(value, Mapping) else "something else"


def _require(spec: Mapping[str, Mapping[str, Any]], name: str, value: Any) -> None:
    needed = name in spec.get("required", {})
    kind, options = {**spec.get("required", {}), **spec.get("optional", {})}.get(name, (None, {}))
    kind = str(kind)  # The host's own kind of text, which is equal to more than itself.
    if kind in _SOCKETS:
        is_one, words = _SOCKETS[kind]
        if value is None and needed:
            raise InputError(
                f"Nothing comes by the wire of '{name}', which takes {words}: a checkpoint may carry none, so load one"
                " with a loader of its own and connect that."
            )
        if value is not None and not is_one(value):
            raise InputError(f"'{name}' takes {words} by a wire, and was given {quoted(value)}: connect it anew.")
    elif kind in _FIELDS:
        is_one, words = _FIELDS[kind]
        if not is_one(value):
            raise InputError(f"'{name}' takes {words}, not {quoted(value)}: set it anew.")
        _require_in_range(name, value, options)
    elif kind == "COMBO" and value not in list(options.get("options", ())):
        choices = ", ".join(f"'{choice}'" for choice in list(options.get("options", ()))[:12])
        raise InputError(f"'{name}' cannot be {quoted(value)}: choose one of its list ({choices}).")


def _require_in_range(name: str, value: Any, options: Mapping[str, Any]) -> None:
    least, most = options.get("min"), options.get("max")
    if (least is not None and value < least) or (most is not None and value > most):
        raise InputError(f"'{name}' must be from {least} to {most}, and was given {quoted(value)}: set it anew.")


def _is_finite(value: Real) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _having(*names: str) -> Callable[[Any], bool]:
    return lambda value: all(hasattr(value, name) for name in names)


def _are_identities(value: Any) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(one, Identity) for one in value)


def _is_conditioning(value: Any) -> bool:
    pairs = value if isinstance(value, list | tuple) else ()
    return bool(pairs) and all(
        isinstance(pair, list | tuple)
        and len(pair) > 1
        and isinstance(pair[0], Tensor)
        and isinstance(pair[1], Mapping)
        for pair in pairs
    )


def _are_latents(value: Any) -> bool:
    return isinstance(value, Mapping) and isinstance(value.get("samples"), Tensor)


_SOCKETS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "MODEL": (_having("model", "clone", "load_device"), "a model"),
    "CLIP": (_having("tokenizer", "cond_stage_model", "clone"), "a text encoder (CLIP)"),
    "CONDITIONING": (_is_conditioning, "a prompt that was encoded (CONDITIONING)"),
    "LATENT": (_are_latents, "latents"),
    "VAE": (_having("encode", "decode", "first_stage_model"), "a VAE"),
    "IMAGE": (lambda value: isinstance(value, Tensor), "pictures"),
    "MASK": (lambda value: isinstance(value, Tensor) and value.ndim >= 2 and value.numel() > 0, "a mask"),
    PrefixSocket.io_type: (lambda value: isinstance(value, Prefix), "a prefix"),
    IdentitiesSocket.io_type: (_are_identities, "the people of an Identity List"),
    ExpertsSocket.io_type: (lambda value: isinstance(value, Experts), "experts"),
}
"""What comes by a wire: how it is known, by what it has, since packs make their own, and what it is called."""

_FIELDS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "INT": (lambda value: isinstance(value, Integral) and not isinstance(value, bool), "a whole number"),
    "FLOAT": (lambda value: isinstance(value, Real) and _is_finite(value), "a number"),
    "STRING": (lambda value: isinstance(value, str), "text"),
    "BOOLEAN": (lambda value: isinstance(value, Integral), "yes or no"),
}
