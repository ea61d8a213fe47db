"""Without this module the browser could not follow a run: what the node that learns and the server's routes share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..trainer.telemetry import Run, Telemetry

TELEMETRY = Telemetry()


@contextmanager
def followed(workflow: Any) -> Iterator[Telemetry]:
    """Tells of the run that happens in here; an exception ends it as cancelled or failed. Whoever enters says how else.

    Args:
        workflow: that the browser sent along with the prompt, if one did.
    """
    from comfy.model_management import InterruptProcessingException
    from comfy_execution.utils import get_executing_context

    context = get_executing_context()
    workflow_id = workflow.get("id") if isinstance(workflow, dict) else None
    TELEMETRY.begin(
        Run(
            context.prompt_id if context else None,
            context.node_id if context else None,
            workflow_id if isinstance(workflow_id, str) else None,
        )
    )
    try:
        yield TELEMETRY
    except InterruptProcessingException:
        TELEMETRY.end("cancelled")
        raise
    except BaseException as error:
        TELEMETRY.end("failed", str(error))
        raise
