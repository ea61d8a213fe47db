"""Without this module the server's routes could not reach the run that is learning: what they and the node share."""

from __future__ import annotations

import threading


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
