"""Records what is to be known of a run while it goes on, kept small.

A run is told of where it happens (`begin`, `note`, `picture`, `end`), which costs microseconds, and looked at from any
thread (`snapshot`), a table of JSON values of a few kilobytes however long the run is.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ...finetuning.progress import FinetuningPlan
    from ..plan import Plan
    from ..progress import Progress, Stage
    from ..state import Score

MOST_POINTS = 160
"""Points of a loss curve, at most."""

RATE_SECONDS = 60.0
"""The time left is told by how fast the last minute went."""

SCORE = ("step", "identity_signal_left", "general_prompts_moved")
"""What a score tells, in its order."""

RUNNING = ("preparing", "drawing", "text_warm_up", "encoding_prompts", "learning", "face_region")
"""What a run may be at, in this order: nothing yet, pictures to learn from, the warm start, prompts that the text
encoder reads (for a gate already before the warm start, if there are both), steps, where faces are."""

PREFIX, FINE_TUNING = "prefix", "fine-tuning"
"""What a run learns: a prefix, which is examined on the way, or weights."""

LOSSES = {PREFIX: ("identities", "general"), FINE_TUNING: ("loss",)}
"""What the losses of a step are of, by what a run learns."""


@dataclass(frozen=True)
class Run:
    """Whose run it is.

    Attributes:
        prompt_id: of the host's queue.
        node_id: the node that learns.
        workflow_id: of the workflow that the browser sent along; None if another client queued it.
        kind: `PREFIX` or `FINE_TUNING`.
    """

    prompt_id: str | None = None
    node_id: str | None = None
    workflow_id: str | None = None
    kind: str = PREFIX


@dataclass(frozen=True)
class PreviewPicture:
    """People without and with the prefix.

    Attributes:
        jpeg: the upper row without, the lower row with the prefix, each pair from the same noise.
        people: their names, from left to right.
        held_out: whether the prefix does not learn from them.
    """

    jpeg: bytes
    people: tuple[str, ...]
    held_out: bool


class SampledCurve:
    """The losses of a run of any length in `MOST_POINTS` points: means over spans of steps that double when it is full.

    Steps whose loss is not a number are left out of the means; a span of nothing else has None.

    Args:
        of: what the losses of a step are of.
    """

    def __init__(self, most: int = MOST_POINTS, of: Sequence[str] = LOSSES[PREFIX]) -> None:
        self._of = tuple(of)
        self._most = most
        self._span = 1
        self._bins: list[list[float]] = []
        self._seen = 0

    def extend(self, history: Sequence[Sequence[float]]) -> None:
        """Takes up the steps of a run's history that it has not seen."""
        for losses in history[self._seen :]:
            index = self._seen // self._span
            if index == self._most:
                self._double()
                index = self._seen // self._span
            if index == len(self._bins):
                self._bins.append([0.0, 0] * len(self._of))
            for kind, loss in enumerate(losses):
                if math.isfinite(loss):
                    self._bins[index][2 * kind] += loss
                    self._bins[index][2 * kind + 1] += 1
            self._seen += 1

    def _double(self) -> None:
        pairs = zip(self._bins[::2], self._bins[1::2], strict=True)
        self._bins = [[a + b for a, b in zip(one, other, strict=True)] for one, other in pairs]
        self._span *= 2

    def table(self) -> dict[str, list[Any]]:
        """The last step of each span, and the means."""
        lasts = [min((index + 1) * self._span, self._seen) for index in range(len(self._bins))]
        means = {
            name: [_mean(*span[2 * kind : 2 * kind + 2]) for span in self._bins] for kind, name in enumerate(self._of)
        }
        return {"steps": lasts, **means}


class TimeLeft:
    """How long what is left of a piece of work takes, as fast as it went lately."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._marks: deque[tuple[float, int]] = deque()

    def mark(self, done: int) -> None:
        """So much is done now."""
        now = self._clock()
        self._marks.append((now, done))
        while len(self._marks) > 2 and (self._marks[1][0] < now - RATE_SECONDS or len(self._marks) > 4 * MOST_POINTS):
            self._marks.popleft()

    def seconds(self, whole: int) -> float | None:
        """Until the whole is done; None while nothing tells."""
        each = self.seconds_each()
        if each is None:
            return None
        last, done = self._marks[-1]
        return max(0.0, each * (whole - done) - (self._clock() - last))

    def seconds_each(self) -> float | None:
        """That one of it takes; None while nothing tells."""
        if len(self._marks) < 2:
            return None
        (began, first), (last, done) = self._marks[0], self._marks[-1]
        return None if done <= first else (last - began) / (done - first)


class Telemetry:
    """The run that is going on, or the last one.

    Args:
        clock: seconds that only go forward.

    Attributes:
        version: grows whenever something is told.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.version = 0
        self._clock = clock
        self._lock = threading.Lock()
        self._run: Run | None = None
        self._state = "preparing"
        self._message = ""
        self._notes: tuple[str, ...] = ()
        self._done = self._of = 0
        self._score: Score | None = None
        self._scores: tuple[Score, ...] = ()
        self._pictures = 0
        self._picture: PreviewPicture | None = None
        self._curve = SampledCurve()
        self._left = TimeLeft(clock)
        self._plan: Plan | FinetuningPlan | None = None
        self._drew = 1.0

    def begin(self, run: Run) -> None:
        """A run begins; what was known of the one before is forgotten."""
        with self._lock:
            self._run = run
            self._state, self._message, self._done, self._of = "preparing", "", 0, 0
            self._notes = ()
            self._score, self._scores, self._picture = None, (), None
            self._curve = SampledCurve(of=LOSSES[run.kind])
            self._left = TimeLeft(self._clock)
            self._plan, self._drew = None, 1.0
            self.version += 1

    def plan(self, plan: Plan | FinetuningPlan) -> None:
        """The run is going to take so much."""
        with self._lock:
            self._plan = plan
            self.version += 1

    def note(self, progress: Progress) -> None:
        """A run that learns a prefix is so far."""
        with self._lock:
            self._note(progress.stage, progress.history, progress.notes)
            if progress.score is not None:
                self._score, self._scores = progress.score, tuple(progress.scores)[-MOST_POINTS:]

    def note_stage(self, stage: Stage, history: Sequence[Sequence[float]] = (), notes: Sequence[str] = ()) -> None:
        """A run that is not examined, such as fine-tuning, is so far.

        Args:
            history: the losses of all steps so far, as `LOSSES` has them; it goes on growing.
            notes: what there is to say of the run by now, sentences.
        """
        with self._lock:
            self._note(stage, history, notes)

    def _note(self, stage: Stage, history: Sequence[Sequence[float]], notes: Sequence[str]) -> None:
        if stage.name != self._state:
            self._state, self._left = stage.name, TimeLeft(self._clock)
        self._done, self._of = stage.done, stage.of
        self._left.mark(stage.done)
        self._drew = self._drawing_time(stage) or self._drew
        self._notes = tuple(notes)
        self._curve.extend(history)
        self.version += 1

    def score(self, score: Score) -> None:
        """The run's prefix scored so much, on people and prompts that chose nothing: no point of the curve."""
        with self._lock:
            self._score = score
            self.version += 1

    def picture(self, picture: PreviewPicture) -> None:
        """People were drawn."""
        with self._lock:
            self._picture = picture
            self._pictures += 1
            self.version += 1

    def end(self, how: str, message: str = "") -> None:
        """The run ended as 'finished', 'stopped', 'cancelled' or 'failed'; a sentence may say why."""
        with self._lock:
            self._state, self._message = how, message
            self.version += 1

    @property
    def newest_picture(self) -> PreviewPicture | None:
        """The last that were drawn in this run."""
        with self._lock:
            return self._picture

    @property
    def seconds_left(self) -> float | None:
        """Of the whole run; None while nothing tells."""
        with self._lock:
            return self._seconds_left()

    def snapshot(self) -> dict[str, Any]:
        """All of it as JSON values; `run` is null if there was none since the server started."""
        with self._lock:
            return {"version": self.version, "run": None if self._run is None else self._table(self._run)}

    def _table(self, run: Run) -> dict[str, Any]:
        left = self._seconds_left()
        shown = self._picture
        return {
            "prompt_id": run.prompt_id,
            "node_id": run.node_id,
            "workflow_id": run.workflow_id,
            "kind": run.kind,
            "state": self._state,
            "message": self._message,
            "notes": list(self._notes),
            "done": self._done,
            "of": self._of,
            "seconds_left": None if left is None else round(left, 1),
            "plan": self._plan and self._plan.table,
            "curve": self._curve.table(),
            "scores": [[score.step, score.identities, score.general] for score in self._scores],
            "score": self._score and dict(zip(SCORE, self._score, strict=True)),
            "picture": shown and {"number": self._pictures, "people": shown.people, "held_out": shown.held_out},
        }

    def _seconds_left(self) -> float | None:
        """Of the whole run: of its stage by how fast it went lately, of those to come by the plan."""
        if self._state not in RUNNING:
            return None
        left = self._left.seconds(self._of)
        if self._plan is None:
            return left
        drawing, warming, reading, learning, region = self._planned_seconds
        planned = (drawing * self._drew, warming, reading, learning * self._drew, region * self._drew)
        begun = RUNNING.index(self._state)  # Of the stages, one less is behind.
        if left is None:
            now = planned[begun - 1] * (1 - self._done / self._of) if begun and self._of else 0.0
        else:
            now = left
        return now + sum(planned[begun:])

    def _drawing_time(self, stage: Stage) -> float | None:
        """How long drawing takes against what was planned for it, which was measured on one picture alone."""
        planned = self._planned_seconds[0]
        if stage.name != "drawing" or not planned:
            return None
        seconds = self._left.seconds_each()
        return None if seconds is None else seconds * stage.of / planned

    @property
    def _planned_seconds(self) -> tuple[float, float, float, float, float]:
        """Of each stage that a run may have. Fine-tuning draws before it plans."""
        seconds = 0.0 if self._plan is None else self._plan.seconds
        return seconds if isinstance(seconds, tuple) else (0.0, 0.0, 0.0, seconds, 0.0)


def _mean(total: float, count: float) -> float | None:
    return float(f"{total / count:.4g}") if count else None
