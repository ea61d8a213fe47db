"""Checks that values of a record are plain: what every file, page, console and script can take.

A record comes out of files of strangers. Python reads more from JSON than others can take: numbers without end, halves
of characters, nesting up to its own limit.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from ..errors import PrefixValueError

MOST_DEPTH = 32
"""Lists and tables inside of each other."""

MOST_WHOLE = 2**64
"""A whole number is smaller than this: seeds have 64 bits."""

_NO_CHARACTER = re.compile("[\\0\\ud800-\\udfff]")
"""NUL, and halves of characters, which no encoding has."""


def is_finite(value: Any) -> bool:
    """Whether that is a number, and one that a float can hold."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def require_plain(value: Any, what: str) -> None:
    """Raises `PrefixValueError` unless a value is JSON that anybody can take.

    Args:
        value: to be looked into, not deeper than `MOST_DEPTH`.
        what: what the error calls it.
    """
    pending = [(value, 0)]
    while pending:
        part, depth = pending.pop()
        if depth > MOST_DEPTH:
            raise PrefixValueError(f"{what} is nested more than {MOST_DEPTH} deep.")
        if isinstance(part, str):
            _require_text(part, what)
        elif isinstance(part, Mapping):
            for name, inner in part.items():
                if not isinstance(name, str):
                    raise PrefixValueError(f"{what} must be plain JSON, with text for names.")
                _require_text(name, what)
                pending.append((inner, depth + 1))
        elif isinstance(part, list | tuple):
            pending += [(inner, depth + 1) for inner in part]
        elif not (part is None or isinstance(part, bool) or _is_number(part)):
            raise PrefixValueError(f"{what} must be plain JSON, its numbers finite and of 64 bits at most.")


def read_json(text: str | bytes) -> Any:
    """What JSON says, if it says everything once.

    Raises:
        ValueError: no JSON, a name that a table has twice, or a number of thousands of digits.
        RecursionError: nested too deep.
    """
    return json.loads(text, object_pairs_hook=_table)


def _table(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        raise ValueError("a name stands in it twice")
    return table


def _is_number(value: Any) -> bool:
    return is_finite(value) and not (isinstance(value, int) and abs(value) >= MOST_WHOLE)


def _require_text(text: str, what: str) -> None:
    if _NO_CHARACTER.search(text):
        raise PrefixValueError(f"{what} holds characters that cannot be written.")
