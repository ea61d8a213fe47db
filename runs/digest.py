"""Computes a digest of weights and of what patches them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from ..prefix import fingerprint
from .weights import weights_of

DEPTH = 8
"""How deep the values inside patches are followed."""

_PACKAGE = __name__.removesuffix(".runs.digest")
_FOLDERS = re.compile(r"[/\\]")


def digest_of(*values: Any) -> str:
    """A digest of values of any kind that is the same in every process: 16 hexadecimal digits.

    Tensors and modules count by samples of their values (see `fingerprint`), functions by their names and what they
    close over, other objects by their class and attributes. No addresses, no random ids, and no paths: a run goes on
    when the extension is moved.
    """
    text = "\n".join(_lines(values, DEPTH, {}))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def original_weights(patcher: Any) -> dict[str, Tensor]:
    """A model's weights as they were before the host patched them in place; where they lie does not matter.

    Args:
        patcher: the host's `ModelPatcher`.
    """
    weights = weights_of(patcher.model)
    for key, kept in getattr(patcher, "backup", {}).items():
        if key in weights:
            weights[key] = kept.weight
    return weights


def _lines(value: Any, depth: int, seen: dict[int, Any]) -> Iterable[str]:
    if value is None or isinstance(value, str | int | float | bool | bytes):
        yield repr(value)
    elif isinstance(value, Tensor):
        yield f"tensor {fingerprint({'': value})} {value.dtype}"
    elif isinstance(value, nn.Module):
        yield f"{_name(type(value))} {fingerprint(weights_of(value))}"
    elif depth == 0 or id(value) in seen:
        yield "…"
    else:
        seen[id(value)] = value  # Held on to, so that no other object can get its id.
        yield _name(type(value))
        for part in _parts(value):
            yield from _lines(part, depth - 1, seen)


def _parts(value: Any) -> Iterable[Any]:
    if isinstance(value, Mapping):
        return [part for key, entry in value.items() for part in (str(key), entry)]
    if isinstance(value, set | frozenset):
        return sorted(value, key=str)
    if isinstance(value, Sequence):
        return value
    if callable(value) and hasattr(value, "__qualname__"):
        cells = getattr(value, "__closure__", None) or ()
        return [_name(value), getattr(value, "__self__", None), *(_content(cell) for cell in cells)]
    return sorted(vars(value).items()) if hasattr(value, "__dict__") else ()


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # Still empty.
        return None


def _name(value: Any) -> str:
    """The name of a class or function, whatever file of ours, or folder of another extension, it comes from."""
    module, name = str(getattr(value, "__module__", "")), getattr(value, "__qualname__", "")
    if f"{module}.".startswith(f"{_PACKAGE}."):
        return name
    # The host names an extension's modules by the path of its folder.
    return f"{_FOLDERS.split(module)[-1]}.{name}"
