"""Without this module what a node has to tell, short of an error, would stay in the console."""

from __future__ import annotations

from comfy_api.v0_0_2 import io, ui

from ..prefix import as_markup


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
