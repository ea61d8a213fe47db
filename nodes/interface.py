"""Defines what the nodes share with the host: socket types, advanced widgets, notices on a node."""

from __future__ import annotations

from typing import TypeVar

from comfy_api.v0_0_2 import io, ui

from ..prefix import as_markup

PrefixSocket = io.Custom("ANONYMIZATION_PREFIX")
"""Carries a `prefix.Prefix`."""

IdentitiesSocket = io.Custom("IDENTITIES")
"""Carries a tuple of `trainer.data.identities.Identity`."""


Widget = TypeVar("Widget", bound=io.WidgetInput)


def advanced(widget: Widget) -> Widget:
    """The widget, shown only when the artist asks for advanced ones."""
    widget.extra_dict["advanced"] = True
    return widget


def tell(node: type[io.ComfyNode], text: str) -> ui.PreviewText:
    """Shows a text on a running node and returns it as the node's `ui`, for those who read the history.

    The browser keeps what a node said last until it says something else, so a node that tells something at one run
    should at the next. The text may hold anything that a file or a workflow brings: the browser, which takes what it
    is sent for markup, shows it as it is.

    Args:
        node: the class that executes, with `io.Hidden.unique_id` in its schema.
        text: one or more lines, not empty.
    """
    from server import PromptServer  # What runs nodes without a server need not have it.

    PromptServer.instance.send_progress_text(as_markup(text), node.hidden.unique_id)
    return ui.PreviewText(text)
