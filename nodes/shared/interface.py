"""Defines what the nodes share with the host: socket types, advanced widgets, what a node says of its run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import comfy.model_management
import comfy.utils
from comfy_api.v0_0_2 import io, ui

from ...engines.automatic import AUTOMATIC
from ...engines.options import Drawing
from ...runs.settings import described

PrefixSocket = io.Custom("ANONYMIZATION_PREFIX")
"""Carries a `prefix.Prefix`."""

IdentitiesSocket = io.Custom("IDENTITIES")
"""Carries a tuple of `trainer.data.identities.Identity`."""

ExpertsSocket = io.Custom("PROMPT_EXPERTS")
"""Carries an `experts.value.Experts`."""

SAID = "anonymize_faces.said"
"""The event by which a node that runs says something; web/results/report.js takes it."""

READ = "anonymize_faces.read"
"""The event by which a node says how far its prefix acts on a prompt; web/prefixes/prompts.js takes it."""

WIDGETS = {bool: io.Boolean.Input, int: io.Int.Input, float: io.Float.Input, str: io.String.Input}
"""What shows a value, by its type."""

Widget = TypeVar("Widget", bound=io.WidgetInput)


def shown_progress() -> Callable[[int, int], None]:
    """What is called with what is done and what there is to do: it moves the node's bar and raises upon Cancel.

    Where there is nothing to do (0), or that is not known, the bar stays.
    """
    bar = comfy.utils.ProgressBar(1)

    def show(done: int, total: int) -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        if total:
            bar.update_absolute(done, total)

    return show


def said_meanwhile(workflow: Any) -> Callable[[str], None]:
    """What is called with a sentence that the node shows while it runs, where its report comes at the end.

    Args:
        workflow: that the browser sent along with the prompt, if one did.
    """
    send = _sender(workflow)
    return lambda sentence: send(SAID, {"text": sentence})


def said_of_prompts(workflow: Any) -> Callable[[float, float], None]:
    """What is called with how far a prefix acts on a prompt, 0 to 1, by whichever node reads it, then or later.

    Of several text encoders, in the one in which it acts least, and in the one in which it acts most.

    The node that runs now shows it; what it showed before was of another prefix, and goes.

    Args:
        workflow: see `said_meanwhile`.
    """
    send = _sender(workflow)
    send(READ, {"reader": None})
    return lambda least, most: send(READ, {"reader": _running_node(), "least": least, "most": most})


def _sender(workflow: Any) -> Callable[[str, dict[str, Any]], None]:
    """What sends an event of the node that runs now to the page that queued the prompt."""
    from server import PromptServer

    server = getattr(PromptServer, "instance", None)
    told = {"node_id": _running_node(), "workflow_id": id_of(workflow)}

    def send(event: str, about: dict[str, Any]) -> None:
        # Without a page that queued the prompt it would go to all pages.
        if server is not None and server.client_id:
            server.send_sync(event, {**told, **about}, server.client_id)

    return send


def _running_node() -> str | None:
    """The host's name of the node that it runs, None outside of a run."""
    from comfy_execution.utils import get_executing_context

    context = get_executing_context()
    return context.node_id if context else None


def id_of(workflow: Any) -> str | None:
    """The id of a workflow that the browser sent along with a prompt; None if it did not, or it has none."""
    found = workflow.get("id") if isinstance(workflow, dict) else None
    return found if isinstance(found, str) else None


def advanced(widget: Widget) -> Widget:
    """The widget, shown only when the artist asks for advanced ones."""
    widget.extra_dict["advanced"] = True
    return widget


def widget(settings: type, name: str, id: str = "", **other: Any) -> io.WidgetInput:
    """The widget of a setting: its default, range, step and help are those of the field.

    Args:
        settings: a dataclass, whose fields are described as `runs.settings` says.
        id: the widget's own name, where it is not the field's.
        other: what the node has otherwise, or the host wants to know besides.
    """
    about = described(settings, name)
    options: dict[str, Any] = {"default": about.default, "tooltip": about.told}
    kind = type(about.default)
    if kind in (int, float):
        options["min"], options["max"] = map(kind, about.offered or (about.least, about.most))
        if about.automatic is not None:
            options["min"] = kind(min(about.automatic, options["min"]))
    if about.step is not None:
        options["step"] = about.step
    if about.rounded:
        options["round"] = about.step
    if about.choices:
        options["options"] = list(about.choices)
    options |= other
    made = (io.Combo.Input if "options" in options else WIDGETS[kind])(id or name, **options)
    return advanced(made) if about.advanced else made


def seed_widget(settings: type, **other: Any) -> io.WidgetInput:
    """The widget of the setting `seed`, which stays as it is from run to run; `other` as of `widget`."""
    return widget(settings, "seed", control_after_generate=False, **other)


def size_widgets(width: str, height: str) -> tuple[io.WidgetInput, io.WidgetInput]:
    """The widgets of a picture's size, with what each is, in pixels."""
    size = {"default": AUTOMATIC, "min": AUTOMATIC, "max": 4096, "step": 8}
    return tuple(
        io.Int.Input(name, tooltip=automatic(help), **size) for name, help in (("width", width), ("height", height))
    )


def drawing_widgets(
    names: tuple[str, str] = ("steps", "cfg"), steps: str = "", cfg: str = ""
) -> tuple[io.WidgetInput, io.WidgetInput]:
    """The widgets of the sampler's steps and of guidance: their names, and what each is, if not as `Drawing` says."""

    def made(name: str, id: str, help: str) -> io.WidgetInput:
        about = described(Drawing, name)
        least = type(about.default)(AUTOMATIC)
        return widget(Drawing, name, id, default=least, min=least, tooltip=automatic(help or about.help))

    return made("steps", names[0], steps), made("cfg", names[1], cfg)


def automatic(help: str) -> str:
    """The help of a widget whose 0 leaves the choice to the model's family; see `engines.automatic`."""
    return f"{help} 0: what the model is used to."


def tell(text: str) -> ui.PreviewText:
    """What a node says of its run, as its `ui`: web/results/report.js shows it on the node, others read the history.

    The node keeps room for it, which what the host itself would show while it runs does not. The text may hold anything
    that a file or a workflow brings: it is shown as it is.
    """
    return ui.PreviewText(text)
