"""Without this module each node would say for itself what is for those who ask for more."""

from __future__ import annotations

from typing import TypeVar

from comfy_api.v0_0_2 import io

Widget = TypeVar("Widget", bound=io.WidgetInput)


def advanced(widget: Widget) -> Widget:
    """The widget, shown only when the artist asks for advanced ones."""
    widget.extra_dict["advanced"] = True
    return widget
