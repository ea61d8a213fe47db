"""Says how far a run is, what it tells and asks on the way, and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ..engines.denoiser import Vectors
from ..prefix.value import Prefix
from .plan import Plan
from .state import Losses, Score


class Stage(NamedTuple):
    """What a run is at: "drawing" pictures to learn from, "text_warm_up", "encoding_prompts", "learning" or
    "face_region", and how far."""

    name: str
    done: int
    of: int


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        pictures, text_steps, steps: done so far, in this order: pictures drawn, steps of the warm start, steps.
        of: how many there are of each, and of prompts that are read.
        losses: of the last step.
        score: the best so far.
        history: the losses of all steps so far, of earlier processes too; it goes on growing.
        notes: what there is to say of the run by now, sentences.
        scores: of all snapshots that were examined so far, in order.
        prompts: that the text encoder has read so far, to begin from before the warm start, for the teacher after it.
        face_region: done of what is learned about where faces are, after the last step, and how much there is.
    """

    pictures: int
    text_steps: int
    steps: int
    of: tuple[int, int, int, int]
    losses: Losses | None = None
    score: Score | None = None
    history: Sequence[Losses] = ()
    notes: Sequence[str] = ()
    scores: Sequence[Score] = ()
    prompts: int = 0
    face_region: tuple[int, int] = (0, 0)

    @property
    def done(self) -> int:
        """All of them together."""
        return self.pictures + self.text_steps + self.steps + self.prompts

    @property
    def stage(self) -> Stage:
        """What the run is at."""
        pictures, text_steps, steps, prompts = self.of
        if self.face_region[1]:
            return Stage("face_region", *self.face_region)
        if self.steps:
            return Stage("learning", self.steps, steps)
        if self.prompts and self.text_steps in (0, text_steps):
            return Stage("encoding_prompts", self.prompts, prompts)
        if self.text_steps:
            return Stage("text_warm_up", self.text_steps, text_steps)
        return Stage("drawing", self.pictures, pictures)


@dataclass(frozen=True)
class Learned:
    """A learned prefix, and how it was learned.

    Attributes:
        prefix: the best there was; its record holds `figures`.
        history: the losses of every step.
        scores: of all snapshots that were examined, in order.
        best: the one that the prefix was chosen by.
        figures: those of the prefix's record: about people and prompts that chose nothing, if enough are held out.
        examined: how many people the figures are about whom the prefix did not learn from; 0 if they are about others.
        chose: whether these people chose the best one as well, because too few are held out for both.
        drawing_seconds, learning_seconds: what it took; the former in this process, the latter in all.
        stopped: why it ended before its last step, a sentence; empty if it did not.
        notes: what else happened, sentences.
    """

    prefix: Prefix
    history: tuple[Losses, ...]
    scores: tuple[Score, ...]
    best: Score
    figures: Score
    examined: int
    drawing_seconds: float
    learning_seconds: float
    stopped: str = ""
    notes: tuple[str, ...] = ()
    chose: bool = False


@dataclass(frozen=True)
class Callbacks:
    """What a run calls while it goes on. What they raise breaks it off, and comes through.

    Attributes:
        report: called after every batch of pictures and every step.
        check: called more often than that.
        stop: asked after every step whether to end, with the best prefix so far.
        show: called outside `Denoiser.gradients` with the vectors, now and then and with the best ones at the end.
        plan: called with what the run is going to take, before anything is drawn.
        look: called inside `Denoiser.gradients` with the steps made and the vectors, after every step and before the
            first.
    """

    report: Callable[[Progress], None] = lambda progress: None
    check: Callable[[], None] = lambda: None
    stop: Callable[[], bool] = lambda: False
    show: Callable[[Vectors], None] = lambda vectors: None
    plan: Callable[[Plan], None] = lambda plan: None
    look: Callable[[int, Vectors], None] = lambda step, vectors: None


NO_CALLBACKS = Callbacks()
