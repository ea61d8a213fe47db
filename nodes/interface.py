"""Defines what the nodes share with the host: socket types, advanced widgets, what a node says of its run."""

from __future__ import annotations

from typing import TypeVar

from comfy_api.v0_0_2 import io, ui

PrefixSocket = io.Custom("ANONYMIZATION_PREFIX")
"""Carries a `prefix.Prefix`."""

IdentitiesSocket = io.Custom("IDENTITIES")
"""Carries a tuple of `trainer.data.identities.Identity`."""


Widget = TypeVar("Widget", bound=io.WidgetInput)


def advanced(widget: Widget) -> Widget:
    """The widget, shown only when the artist asks for advanced ones."""
    widget.extra_dict["advanced"] = True
    return widget


def tell(text: str) -> ui.PreviewText:
    """What a node says of its run, as its `ui`: web/results/report.js shows it on the node, others read the history.

    The node keeps room for it, which what the host itself would show while it runs does not. The text may hold anything
    that a file or a workflow brings: it is shown as it is.
    """
    return ui.PreviewText(text)
