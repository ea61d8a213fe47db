"""Reads the protection that a user asks for, in the panel, a plot or the API.

What cannot be read is an error, never "off".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...prefix import AnonymizationError, load_prefix
from ...prefix.files import library
from .protection import Protection, RequestedProtection

TITLE = "Anonymize Faces"
PANEL = "is_anonymize_faces_panel"
"""Attribute by which our script is told among those of a request: its class is another after each reload."""

PLOTTED = "anonymize_faces_plotted"
"""Attribute of a request that holds what an X/Y/Z plot sets for one of its cells."""

PREFIX, STRENGTH = "prefix", "strength"
NO_PREFIX = "None"
"""What the plot calls drawing without a prefix."""


@dataclass(frozen=True)
class PanelValues:
    """The panel's three values, as they come.

    Raises:
        AnonymizationError: one of them is of the wrong kind.
    """

    enabled: bool
    prefix: str | None
    strength: float

    def __post_init__(self) -> None:
        faults = []
        if not isinstance(self.enabled, bool):
            faults.append(f"'{TITLE}' is {self.enabled!r}, not true or false")
        if not (self.prefix is None or isinstance(self.prefix, str)):
            faults.append(f"its prefix is {self.prefix!r}, not the name of a file")
        if not isinstance(self.strength, int | float) or isinstance(self.strength, bool):
            faults.append(f"its strength is {self.strength!r}, not a number")
        elif not 0.0 <= self.strength <= 1.0:
            faults.append(f"its strength is {self.strength!r}, out of range")
        if faults:
            raise _unread(", ".join(faults))


def requested_protection(p: Any) -> RequestedProtection:
    """What a request of the host, its `StableDiffusionProcessing`, asks for.

    Raises:
        AnonymizationError: that cannot be read, or there is no such prefix.
    """
    values, plotted = panel_values(p), getattr(p, PLOTTED, None)
    on = values is not None and values.enabled
    if plotted:
        name = plotted.get(PREFIX, values.prefix if on else None)
        if name == NO_PREFIX:
            return RequestedProtection(lowers=True)
        if not on and PREFIX not in plotted:
            raise AnonymizationError(
                f"The plot varies the strength of {TITLE}, which is off: tick it, or let the plot vary its prefix."
            )
        strength = plotted.get(STRENGTH, values.strength if values is not None else 1.0)
        return RequestedProtection(_protection(name, strength), lowers=True)
    return RequestedProtection(_protection(values.prefix, values.strength)) if on else RequestedProtection()


def panel_values(p: Any) -> PanelValues | None:
    """The panel's values of a request; None if it has no panel, or whoever made it left out the values of all scripts.

    Raises:
        AnonymizationError: they are of the wrong kind, too few, or None, or what holds them cannot be read.
    """
    script = next((s for s in getattr(p.scripts, "alwayson_scripts", None) or () if getattr(s, PANEL, False)), None)
    given = getattr(p, "script_args", None)
    if script is None or not given:  # Requests that extensions make on their own have no values for any script.
        return None
    if script.args_from is None or not isinstance(given, list | tuple):
        raise _unread(f"the request's values are a '{type(given).__name__}', in which the panel's have no place")
    ours = tuple(given[script.args_from : script.args_to])
    if len(ours) < len(PanelValues.__dataclass_fields__):
        raise _unread(f"the request has {len(ours)} of its {len(PanelValues.__dataclass_fields__)} values")
    return PanelValues(*ours[: len(PanelValues.__dataclass_fields__)])


def require_arguments(scripts: Any) -> None:
    """Raises `AnonymizationError` if a request of the host's API names the panel and gives no sound values for it.

    Values that are left out at the end are the panel's own, but the first one is never.

    Args:
        scripts: what the request calls `alwayson_scripts`.
    """
    if scripts is None:
        return
    if not isinstance(scripts, Mapping):
        raise _unread("'alwayson_scripts' is no table of scripts")
    for name, given in scripts.items():
        if not isinstance(name, str) or name.strip().lower() != TITLE.lower():
            continue
        values = given.get("args") if isinstance(given, Mapping) else None
        if not isinstance(values, list | tuple) or not values:
            raise AnonymizationError(
                f"The request names '{TITLE}' and gives no values for it, so that nothing would be protected: give"
                ' {"args": [true, "name of a prefix file", 1.0]}.'
            )
        count = len(PanelValues.__dataclass_fields__)
        if len(values) > count:
            raise _unread(f"the request gives {len(values)} values, and there are {count}")
        PanelValues(*values, *(None, 1.0)[len(values) - 1 :])


def _unread(reason: str) -> AnonymizationError:
    return AnonymizationError(
        f"What to protect with cannot be read: {reason}. Give three values: on or off, the name of a prefix file, and a"
        " strength from 0 to 1."
    )


def _protection(name: str | None, strength: float) -> Protection:
    name = name.strip() if name else None
    return Protection(name, load_prefix(library.chosen(prefix_folders(), name)), float(strength))


def prefix_folders() -> list[Path]:
    """The folders that prefix files lie in."""
    from modules import paths

    return [Path(paths.models_path) / library.FOLDER]


def embedding_folders() -> list[Path]:
    """The folder that embeddings lie in, as the host was started with it."""
    from modules import shared

    folder = getattr(shared.cmd_opts, "embeddings_dir", None)
    return [Path(folder)] if folder else []


def prefix_choices() -> list[str]:
    """Options for a list of prefix files."""
    return library.choices(prefix_folders())
