"""Holds what nodes that learn and the server's routes share: the run's telemetry, and who asked to stop it."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ...trainer.reporting.telemetry import FINE_TUNING, PREFIX, Run, Telemetry
from ..shared.interface import id_of

if TYPE_CHECKING:
    from ...finetuning.progress import FinetuningCallbacks

TELEMETRY = Telemetry()


@contextmanager
def followed(workflow: Any, kind: str = PREFIX) -> Iterator[Telemetry]:
    """Tells of the run that happens in here; an exception ends it as cancelled or failed. Whoever enters says how else.

    Args:
        workflow: that the browser sent along with the prompt, if one did.
        kind: what is learned, see `telemetry.Run`.
    """
    from comfy.model_management import InterruptProcessingException
    from comfy_execution.utils import get_executing_context

    context = get_executing_context()
    TELEMETRY.begin(
        Run(
            context.prompt_id if context else None,
            context.node_id if context else None,
            id_of(workflow),
            kind,
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


class FollowedFinetuning:
    """Tells of fine-tuning while it goes on, and hands it what a page asks; made by `followed_finetuning`.

    Attributes:
        callbacks: what `finetuned` is to call.
    """

    def __init__(
        self, telemetry: Telemetry, report: Callable[[int, int], None], check: Callable[[], None], can_stop: bool
    ) -> None:
        from comfy_execution.utils import get_executing_context

        from ...finetuning.progress import FinetuningCallbacks

        context = get_executing_context()
        self._prompt_id = context.prompt_id if context else None
        self._can_stop = can_stop
        self._telemetry = telemetry
        self._report = report
        self._history: list[tuple[float]] = []
        self._of = 0
        self.callbacks: FinetuningCallbacks = FinetuningCallbacks(self._step, check, RUNNING.asked, telemetry.plan)

    def drawing(self, done: int, of: int) -> None:
        """So many of the pictures that are mixed in are drawn."""
        from ...trainer.progress import Stage

        self._telemetry.note_stage(Stage("drawing", done, of))

    def end(self, done: int, stopped: str = "", notes: Sequence[str] = ()) -> None:
        """It has learned what it learns.

        Args:
            done: steps that were made, in earlier processes too.
            stopped: why it ended before its last step, a sentence.
            notes: what else happened, sentences.
        """
        from ...trainer.progress import Stage

        self._telemetry.note_stage(Stage("learning", done, max(done, self._of)), self._history, notes)
        self._telemetry.end("stopped" if stopped else "finished", stopped)

    def _step(self, done: int, of: int, loss: float) -> None:
        from ...trainer.progress import Stage

        if self._can_stop:
            RUNNING.begin(self._prompt_id)
        self._of = of
        # Of steps that were made before it was broken off, nothing is known here.
        self._history += [(math.nan,)] * (done - 1 - len(self._history)) + [(loss,)]
        self._telemetry.note_stage(Stage("learning", done, of), self._history)
        self._report(done, of)


@contextmanager
def followed_finetuning(
    workflow: Any, report: Callable[[int, int], None], check: Callable[[], None], can_stop: bool = True
) -> Iterator[FollowedFinetuning]:
    """Tells of the fine-tuning that happens in here, as `followed` does of a run.

    Args:
        workflow: see `followed`.
        report: called after every step with the steps made and how many there are.
        check: called more often than that; what it raises breaks it off.
        can_stop: whether a page can stop it, with what has been learned.
    """
    with followed(workflow, FINE_TUNING) as telemetry:
        try:
            yield FollowedFinetuning(telemetry, report, check, can_stop)
        finally:
            RUNNING.end()
