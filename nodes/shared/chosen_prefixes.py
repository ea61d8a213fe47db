"""Reads the prefixes that a node compares: files that are chosen in its lists, and those that come by wires."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from comfy_api.v0_0_2 import io

from ...prefix import Prefix
from ...prefix.files.library import newest_choices
from ...prefix.files.preview import load_with_preview
from .folder import content_hash, fault_of, find_file, prefix_files
from .interface import PrefixSocket

PLACES = (1, 2, 3)
"""How many prefixes of either kind stand side by side."""

NO_PREFIX = "(none)"


def prefix_lists(help: str) -> list[io.WidgetInput]:
    """The lists `prefix_1` and so on, each with its help."""
    found = prefix_files()
    files = [NO_PREFIX, *newest_choices(found), *found]
    return [
        io.Combo.Input(f"prefix_{place}", options=files, default=NO_PREFIX, optional=True, tooltip=help)
        for place in PLACES
    ]


def learned_sockets(help: str) -> list[Any]:
    """The sockets `learned_prefix_1` and so on, each with its help."""
    return [PrefixSocket.Input(f"learned_prefix_{place}", optional=True, tooltip=help) for place in PLACES]


def fault_of_choice(name: Any) -> str | None:
    """What is wrong with what is chosen in such a list; None if nothing is, or if none is chosen."""
    return None if name is None or name == NO_PREFIX else fault_of(name)


def contents_of(inputs: Mapping[str, Any]) -> str:
    """Changes when a file that is chosen holds something else."""
    names = (inputs.get(f"prefix_{place}", NO_PREFIX) for place in PLACES)
    return " ".join(content_hash(name) for name in names if name != NO_PREFIX)


def chosen_prefixes(inputs: Mapping[str, Any]) -> Iterator[tuple[str, Prefix]]:
    """The prefixes with names for the table, each name once: those that are connected, then the files."""
    from ...evaluation.results import PLAIN

    taken = {PLAIN}
    for place in PLACES:
        learned: Prefix | None = inputs.get(f"learned_prefix_{place}")
        if learned is not None:
            yield _free(learned.record.name or f"learned {place}", taken), learned
    for place in PLACES:
        name = inputs.get(f"prefix_{place}")
        if name is not None and name != NO_PREFIX:
            path = find_file(name)
            yield _free(path.stem, taken), load_with_preview(path)


def _free(name: str, taken: set[str]) -> str:
    """The name, or with the first number that is free."""
    free = next(text for text in (name, *(f"{name} ({number})" for number in range(2, 9))) if text not in taken)
    taken.add(free)
    return free
