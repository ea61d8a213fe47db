"""Learns a prefix: draws, then step by step pulls the student towards the teacher."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from ..engines.denoiser import Denoiser, Vectors
from ..engines.micro_batches import MicroBatches
from ..prefix.errors import TrainingError
from ..prefix.value import Prefix, PrefixRecord
from ..runs.run_folder import RunFolder, run_key
from ..runs.seeds import generator as seeded
from ..runs.tensor_store import TensorStore
from .data.identities import Identity
from .data.long_prompts import choosing, long_general_prompts
from .data.pictures import Pictures, draw_pictures, general_pairs, identity_pairs, spoken_pairs
from .data.plain_text import PlainText
from .data.prompts import GENERAL_PROMPTS
from .data.targets import TargetPool, slots_of_step
from .parallel.shared_work import compute, in_turn, mask, shared
from .parallel.team import ALONE, Team, share
from .preview import PreviewBudget
from .settings import TrainingSettings
from .state import Losses, RunState, Score, new_state, restore, state_to_file
from .step import MOST_SKIPPED, make_step
from .validation import Validation, hold_out, steps_between, validation_pictures
from .warm_start import can_start, start_of, warm_start

DRAWN_AT_ONCE = 2
"""Pictures are drawn this many batches at a time: without gradients they need less memory."""

RECIPE = 4
"""Raised when the same arguments no longer give the same prefix, so that no run of an older version is gone on with."""


class Stage(NamedTuple):
    """What a run is at: "drawing" pictures to learn from, "text_warm_up" or "learning"; and how far."""

    name: str
    done: int
    of: int


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        pictures, text_steps, steps: done so far, in this order: pictures drawn, steps of the warm start, steps.
        of: how many there are of each.
        losses: of the last step.
        score: the best so far.
        history: the losses of all steps so far, of earlier processes too; it goes on growing.
    """

    pictures: int
    text_steps: int
    steps: int
    of: tuple[int, int, int]
    losses: Losses | None = None
    score: Score | None = None
    history: Sequence[Losses] = ()

    @property
    def done(self) -> int:
        """All of them together."""
        return self.pictures + self.text_steps + self.steps

    @property
    def stage(self) -> Stage:
        """What the run is at."""
        pictures, text_steps, steps = self.of
        if self.steps:
            return Stage("learning", self.steps, steps)
        if self.text_steps:
            return Stage("text_warm_up", self.text_steps, text_steps)
        return Stage("drawing", self.pictures, pictures)


@dataclass(frozen=True)
class Learned:
    """A learned prefix, and how it was learned.

    Attributes:
        prefix: the best there was; its record holds the figures of `best`.
        history: the losses of every step.
        scores: of all snapshots that were examined, in order.
        best: the prefix's own.
        validated: how many people validation asked about whom the prefix did not learn from; 0 if it asked about
            others.
        drawing_seconds, learning_seconds: what it took; the former in this process, the latter in all.
        stopped: why it ended before its last step, a sentence; empty if it did not.
        notes: what else happened, sentences.
    """

    prefix: Prefix
    history: tuple[Losses, ...]
    scores: tuple[Score, ...]
    best: Score
    validated: int
    drawing_seconds: float
    learning_seconds: float
    stopped: str = ""
    notes: tuple[str, ...] = ()


def learn_prefix(
    denoiser: Denoiser,
    identities: Sequence[Identity],
    prompts: Sequence[str],
    settings: TrainingSettings,
    report: Callable[[Progress], None] = lambda progress: None,
    *,
    check: Callable[[], None] = lambda: None,
    runs: Path | None = None,
    stop: Callable[[], bool] = lambda: False,
    show: Callable[[Vectors], None] = lambda vectors: None,
    team: Team = ALONE,
) -> Learned:
    """Learns a prefix by Anonymization Prompt Learning (docs/METHODS.md 1): nothing but its vectors is trained.

    The same model, arguments and machine give the same prefix, however often the run was broken off and gone on with.

    Args:
        identities: the people to learn from, at least one.
        prompts: general prompts that the prefix is to leave alone, at least one.
        report: called after every batch of pictures and every step; may raise to break off the run.
        check: called more often than that; may raise likewise.
        runs: the folder of unfinished runs, where one that was broken off is gone on with; None to keep nothing.
        stop: asked after every step whether to end, with the best prefix so far.
        show: called outside `Denoiser.gradients` with the vectors, now and then and with the best ones at the end.
        team: the processes that learn this prefix together, each of which calls this with the same arguments; the batch
            is that of all together. They share the folder of unfinished runs, which the first of them writes to.

    Raises:
        TrainingError: nobody to learn from, a team without a folder or larger than a batch, no memory for a single
            picture, or losses that are never finite. Whatever `report`, `check` or `show` raise comes through.
    """
    if not identities or not prompts:
        raise TrainingError("There is nobody to learn from: add at least one identity and one general prompt.")
    if team.count > 1 and (runs is None or settings.batch_size < team.count):
        raise TrainingError(
            f"{team.count} processes need a folder of runs that all of them see, and a batch of at least"
            f" {team.count} pictures: set --runs and --batch-size."
        )
    started = time.monotonic()
    first = team.rank == 0
    held_out = hold_out(identities, prompts, settings.held_out, settings.seed)
    choices = seeded(settings.seed, "choices")
    lessons = identity_pairs(held_out.identities, settings.portraits_per_identity, choices, settings.vary_names)
    lessons += general_pairs((*held_out.prompts, *long_general_prompts(held_out.prompts, choosing(choices))))
    spoken = lessons + spoken_pairs(held_out.identities, GENERAL_PROMPTS, choices)
    questions = identity_pairs(held_out.validated, 1, choices, long_every=2) + general_pairs(held_out.validated_prompts)
    pairs = lessons + questions
    key = run_key(recipe=RECIPE, model=denoiser.digest, settings=dataclasses.asdict(settings), pairs=pairs)
    drawing, asking, learning = (MicroBatches(denoiser, n * settings.batch_size, check) for n in (DRAWN_AT_ONCE, 1, 1))
    reading = MicroBatches(denoiser, 1, check)
    whole = (len(pairs), settings.text_steps, settings.steps)
    stopped = ""
    with in_turn(team, lambda: RunFolder(runs, key, owner=first)) as folder:

        def rows(name: str, count: int, saved: str, **options: bool) -> TensorStore:
            known = known_of(folder, saved) if first else ()
            shape = denoiser.latent_shape
            return shared(team, in_turn(team, lambda: folder.tensor_store(name, count, shape, known, **options)))

        latents = rows("pictures", len(pairs), "drawn", precious=True)

        def slots_of(step: int, count: int = 1) -> list[int]:
            return slots_of_step(pool, settings.batch_size, settings.seed, step, count)

        def asked_to_stop() -> bool:
            return bool(team.agreed(torch.tensor(float(stop()))))

        def report_pictures(drawn: int) -> None:
            folder.save("drawn", {"known": mask(latents)}, {})
            report(Progress(drawn, 0, 0, whole))

        def save_warm_start() -> None:
            folder.save("warm-start", *state_to_file(warming))

        def report_text(made: int) -> None:
            if made % settings.snapshot_every == 0:
                save_warm_start()
            report(Progress(len(pairs), made, 0, whole))

        pictures = draw_pictures(denoiser, pairs, settings.seed, drawing, latents, report_pictures, team)
        drawn = time.monotonic()
        preview_budget = PreviewBudget(started, (drawn - started) / len(pairs))
        slots = len(lessons) * settings.noisings_per_picture
        answers = rows("targets", slots, "snapshot")
        taught = Pictures(latents, lessons)
        plain = PlainText(denoiser, folder.tensor_cache())
        pool = TargetPool(
            denoiser, taught, settings.noisings_per_picture, settings.seed, answers, asking, settings.overshoot, plain
        )
        asked = validation_pictures(lessons, questions)
        validation = Validation(denoiser, pictures, asked, settings.seed, asking, settings.overshoot, team)
        between = steps_between(len(validation), settings.batch_size)
        with denoiser.gradients(settings.batch_size):
            state = new_state(start_vectors(denoiser, settings), settings)
            warming = start_of(state.vectors)
            saved, begun = folder.load("snapshot"), folder.load("warm-start")
            team.wait()
            if saved is not None and restore(state, *saved):
                state.note(f"The run was broken off and went on from step {state.step}.")
                learning.size = state.portion
            elif can_start(denoiser, spoken, settings, plain):
                if begun is not None and restore(warming, *begun):
                    state.note(f"The run was broken off and went on from step {warming.step} of the warm start.")
                    learning.size = warming.portion
                with saved_if_broken_off(save_warm_start):
                    warm_start(denoiser, warming, spoken, settings, learning, plain, report_text, team)
                save(folder, state, answers)
            if team.count == 1:
                pool.read(slots_of(state.step, settings.steps - state.step), reading)
        before, prepared = state.seconds, state.step
        while True:
            with denoiser.gradients(learning.size), saved_if_broken_off(lambda: save(folder, state, answers)):
                while not (stopped or validation_is_due(state, between, settings.steps)):
                    if team.count > 1 and state.step == prepared:
                        prepared = min(state.step + settings.snapshot_every, settings.steps)
                        ahead = slots_of(state.step, prepared - state.step)
                        compute(team, answers, ahead, pool.prepare)
                    batch = pool.batch(share(team, slots_of(state.step)))
                    make_step(denoiser, state, batch, settings, learning, team)
                    state.seconds = before + time.monotonic() - drawn
                    stopped = reason_to_stop(state, asked_to_stop)
                    if state.step % settings.snapshot_every == 0 or validation_is_due(state, between, settings.steps):
                        save(folder, state, answers)
                    losses, score = state.history[-1], state.best_score
                    report(Progress(*whole[:2], state.step, whole, losses, score, state.history))
                state.add_score(validation.score(state.vectors, state.step))
            save(folder, state, answers)
            if stopped or state.step >= settings.steps:
                break
            if first:
                preview_budget.show(show, state.vectors)
        if state.best is None or state.skipped == state.step:
            folder.remove()
            raise TrainingError(
                "The loss is not a finite number at any step: lower the learning rate, or run the model"
                " in a wider number format (start ComfyUI with --force-fp32)."
            )
        if first:
            show(state.best)
        record = PrefixRecord(
            family=denoiser.family,
            fingerprint=denoiser.fingerprint,
            settings=dataclasses.asdict(settings),
            identities=len(held_out.identities),
            steps=state.step,
            date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            layers=denoiser.record_layers,
            scores={
                "identity_signal_left": state.best_score.identities,
                "general_prompts_moved": state.best_score.general,
                "best_step": state.best_score.step,
            },
        )
        prefix = Prefix(state.best, record)
        folder.remove()
        return Learned(
            prefix=prefix,
            history=tuple(state.history),
            scores=tuple(state.scores),
            best=state.best_score,
            validated=len(held_out.validated),
            drawing_seconds=drawn - started,
            learning_seconds=state.seconds,
            stopped=stopped,
            notes=(*state.sentences, *([folder.trouble] if folder.trouble else [])),
        )


def start_vectors(denoiser: Denoiser, settings: TrainingSettings) -> dict[str, Tensor]:
    """The parameters `{encoder key: [m, d]}` that training starts from: words repeated as needed, or random vectors."""
    generator = seeded(settings.seed, "vectors")
    vectors = {}
    for key, embeddings in denoiser.token_embeddings(settings.init).items():
        if settings.init.strip():
            rows = [index % len(embeddings) for index in range(settings.vectors)]
            start = embeddings[rows].clone()
        else:
            noise = torch.randn(settings.vectors, embeddings.shape[1], generator=generator)
            start = embeddings.mean(0) + embeddings.std(0) * noise
        vectors[key] = start.requires_grad_()
    return vectors


def validation_is_due(state: RunState, between: int, steps: int) -> bool:
    """Whether the vectors are to be examined before the next step is made."""
    if state.step >= steps:
        return True
    validated = state.scores[-1].step if state.scores else 0
    return state.step % between == 0 and state.step > validated


def reason_to_stop(state: RunState, stop: Callable[[], bool]) -> str:
    """Why the run is to end before its last step, a sentence; empty if it is not."""
    if state.skipped_in_a_row >= MOST_SKIPPED:
        return f"It ended at step {state.step}, because the loss was not finite for {MOST_SKIPPED} steps in a row."
    return f"You stopped it at step {state.step}." if stop() else ""


def save(folder: RunFolder, state: RunState, answers: TensorStore) -> None:
    """Saves the run, with word of which of the teacher's answers are kept."""
    tensors, table = state_to_file(state)
    folder.save("snapshot", {**tensors, "known": mask(answers)}, table)


@contextmanager
def saved_if_broken_off(save: Callable[[], None]) -> Iterator[None]:
    """Saves the run if it is broken off in here, be it between steps or in one: that one has changed nothing yet."""
    try:
        yield
    except BaseException:
        save()
        raise


def known_of(folder: RunFolder, name: str) -> list[int]:
    """The rows that were whole when this was saved; what was written later may not be."""
    tensors, _ = folder.load(name) or ({}, {})
    return torch.nonzero(tensors["known"]).flatten().tolist() if "known" in tensors else []
