"""Builds the panel, and the axes of the X/Y/Z plot."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...prefix import AnonymizationError, as_markup
from ...prefix.enforced_setting import Enforcement
from . import infotext
from .requested_protection import NO_PREFIX, PLOTTED, PREFIX, STRENGTH, TITLE, prefix_choices

PLOT_MODULES = ("xyz_grid.py", "scripts.xyz_grid")
"""What the hosts call the module of their X/Y/Z plot."""


def build(elem_id: Callable[[str], str], enforcement: Enforcement | None) -> tuple[list[Any], list[tuple[Any, Any]]]:
    """The panel's controls, in the order of `PanelValues`, and which parts of an infotext they take up again."""
    import gradio as gr
    from modules.ui_common import create_refresh_button

    free = enforcement is None
    choices = prefix_choices()
    with gr.Accordion(TITLE, open=False, elem_id=elem_id("panel")):
        if not free:
            gr.Markdown(_enforced_words(enforcement))
        enabled = gr.Checkbox(label="Anonymize faces", value=False, interactive=free, elem_id=elem_id("enabled"))
        with gr.Row():
            prefix = gr.Dropdown(
                label="Prefix", choices=choices, value=choices[0], interactive=free, elem_id=elem_id("prefix")
            )
            create_refresh_button(prefix, lambda: None, lambda: {"choices": prefix_choices()}, elem_id("refresh"))
        strength = gr.Slider(
            label="Strength",
            minimum=0.0,
            maximum=1.0,
            step=0.05,
            value=1.0,
            interactive=free,
            elem_id=elem_id("strength"),
        )
    fields = [(enabled, infotext.was_on), (prefix, infotext.PREFIX), (strength, infotext.STRENGTH)]
    return [enabled, prefix, strength], fields


def add_axes() -> None:
    """Lets the host's X/Y/Z plot vary prefix and strength; once, however often called."""
    from modules import scripts

    plots = [data.module for data in scripts.scripts_data if data.script_class.__module__ in PLOT_MODULES]
    for plot in plots:
        known = {option.label for option in plot.axis_options}
        for option in (
            plot.AxisOption(
                f"[{TITLE}] Prefix", str, _plotting(PREFIX), confirm=_confirm_prefixes, choices=_plotted_choices
            ),
            plot.AxisOption(f"[{TITLE}] Strength", float, _plotting(STRENGTH)),
        ):
            if option.label not in known:
                plot.axis_options.append(option)


def _plotting(what: str) -> Callable[[Any, Any, Any], None]:
    """What sets one thing for one cell of a plot."""

    def apply(p: Any, value: Any, values: Any) -> None:
        setattr(p, PLOTTED, {**getattr(p, PLOTTED, {}), what: value})

    return apply


def _plotted_choices() -> list[str]:
    return [NO_PREFIX, *prefix_choices()]


def _confirm_prefixes(p: Any, values: list[str]) -> None:
    known = _plotted_choices()
    for value in values:
        if value not in known:
            raise AnonymizationError(
                f"There is no prefix file '{value}' for the plot: choose among {', '.join(known)}."
            )


def _enforced_words(enforcement: Enforcement) -> str:
    """For a field that takes markup."""
    return as_markup(
        enforcement.fault
        or f"This server anonymizes every prompt with '{enforcement.name.strip()}', whatever is chosen here."
    )
