"""Without this module what a user asks for, in the panel, a plot or the API, could be misread: here it is read.

What cannot be read is an error, never "off".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...prefix import AnonymizationError, library, load_prefix
from .folder import prefix_folders
from .protection import Protection, Wish

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
        if faults:
            raise AnonymizationError(
                f"What to protect with cannot be read: {', '.join(faults)}. Give three values: on or off, the name of a"
                " prefix file, and a strength from 0 to 1."
            )


def wish_of(p: Any) -> Wish:
    """What a request of the host, its `StableDiffusionProcessing`, asks for.

    Raises:
        AnonymizationError: that cannot be read, or there is no such prefix.
    """
    values, plotted = panel_values(p), getattr(p, PLOTTED, None)
    on = values is not None and values.enabled
    if plotted:
        name = plotted.get(PREFIX, values.prefix if on else None)
        if name == NO_PREFIX:
            return Wish(lowers=True)
        if not on and PREFIX not in plotted:
            raise AnonymizationError(
                f"The plot varies the strength of {TITLE}, which is off: tick it, or let the plot vary its prefix."
            )
        strength = plotted.get(STRENGTH, values.strength if values is not None else 1.0)
        return Wish(_protection(name, strength), lowers=True)
    return Wish(_protection(values.prefix, values.strength)) if on else Wish()


def panel_values(p: Any) -> PanelValues | None:
    """The panel's values of a request; None if it has no panel, or whoever made it left them out.

    Raises:
        AnonymizationError: one of them is of the wrong kind.
    """
    script = next((s for s in getattr(p.scripts, "alwayson_scripts", ()) if getattr(s, PANEL, False)), None)
    if script is None or script.args_from is None or not isinstance(p.script_args, Sequence):
        return None
    given = tuple(p.script_args[script.args_from : script.args_to])
    if len(given) != len(PanelValues.__dataclass_fields__) or all(value is None for value in given):
        return None
    return PanelValues(*given)


def require_arguments(scripts: Any) -> None:
    """Raises `AnonymizationError` if a request of the host's API names the panel and gives no list of values for it.

    Args:
        scripts: what the request calls `alwayson_scripts`.
    """
    for name, given in (scripts or {}).items():
        values = given.get("args") if isinstance(given, Mapping) else None
        if name.lower() == TITLE.lower() and not (isinstance(values, Sequence) and values):
            raise AnonymizationError(
                f"The request names '{TITLE}' and gives no values for it, so that nothing would be protected: give"
                ' {"args": [true, "name of a prefix file", 1.0]}.'
            )


def _protection(name: str | None, strength: float) -> Protection:
    name = name.strip() if name else None
    return Protection(name, load_prefix(library.chosen(prefix_folders(), name)), float(strength))
