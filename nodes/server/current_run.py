"""Holds what the node that learns and the server's routes share: the run's telemetry, and who asked to stop it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ...trainer.reporting.telemetry import Run, Telemetry

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


class Running:
    """Which prompt is learning, and whether somebody asked it to stop; the host runs one prompt at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._learning = False
        self._prompt_id: str | None = None
        self._asked = False

    def begin(self, prompt_id: str | None) -> None:
        """The prompt has made a step; from now on it can be stopped."""
        with self._lock:
            if not self._learning:
                self._learning, self._prompt_id, self._asked = True, prompt_id, False

    def end(self) -> None:
        """Nothing is learning any more."""
        with self._lock:
            self._learning, self._prompt_id, self._asked = False, None, False

    def ask_to_stop(self, prompt_id: str | None) -> bool:
        """Asks whatever is learning, or this prompt, to stop; False if it is not learning."""
        with self._lock:
            hit = self._learning and prompt_id in (None, self._prompt_id)
            self._asked = self._asked or hit
            return hit

    def asked(self) -> bool:
        """Whether the run is to stop."""
        with self._lock:
            return self._asked


RUNNING = Running()
