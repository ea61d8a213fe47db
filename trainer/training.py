"""Trains one prefix from first to last: plans, draws, learns, and tells what came of it."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Sequence
from pathlib import Path

from ..engines.denoiser import Denoiser
from ..engines.micro_batches import MicroBatches
from ..engines.starting.prompts import FirstPrompts
from ..prefix.errors import TrainingError
from ..runs.kept_latents import KeptLatents
from ..runs.run_folder import RunFolder, run_key
from .data.drawing import DrawnPictures, first_shard
from .data.identities import Identity
from .data.pairs import TrainingPairs, first_prompts, training_pairs
from .loop import Learning
from .parallel.shared_work import in_turn
from .parallel.team import ALONE, Team
from .plan import Measured, Plan, dry_step, plan_of, prompts_read
from .progress import NO_CALLBACKS, Callbacks, Learned
from .reporting.preview import PreviewBudget
from .settings import TrainingSettings
from .stages.face_region import Finding, dry_head
from .start import start_vectors
from .validation import hold_out

COMPUTED_TWICE = (
    "Blocks of the model were computed twice, which needs much less memory. The prefix is the same, learning took about"
    " a third longer."
)

STREAMED = (
    "Memory was short for a single picture: weights came to the device as they were needed. The prefix is the same,"
    " learning was much slower."
)

RECIPE = 17
"""Raised when the same arguments no longer give the same prefix, so that no run of an older version is gone on with."""


def learn_prefix(
    denoiser: Denoiser,
    identities: Sequence[Identity],
    prompts: Sequence[str],
    settings: TrainingSettings,
    callbacks: Callbacks = NO_CALLBACKS,
    *,
    runs: Path | None = None,
    pictures: Path | None = None,
    team: Team = ALONE,
    finding: Finding | None = None,
) -> Learned:
    """Learns a prefix; see `PrefixTraining` and its `learn`."""
    training = PrefixTraining(
        denoiser, identities, prompts, settings, runs=runs, pictures=pictures, team=team, finding=finding
    )
    return training.learn(callbacks)


class PrefixTraining:
    """Anonymization Prompt Learning (docs/METHODS.md 1) of one prefix: nothing but its vectors is trained.

    The same model, arguments and machine give the same prefix, however often the run was broken off and gone on with.

    Args:
        identities: the people to learn from, at least one.
        prompts: general prompts that the prefix is to leave alone, at least one.
        runs: the folder of unfinished runs, where one that was broken off is gone on with; None to keep nothing.
        pictures: the folder in which pictures of prompts that name nobody are kept for later runs on the same model;
            None to keep none.
        team: the processes that learn this prefix together, each of which does this with the same arguments; the batch
            is that of all together. They share the folder of unfinished runs, which the first of them writes to.
        finding: gives what finds faces in pictures, where the settings ask for a face region; None for nothing.

    Attributes:
        held_out: who and what is learned from, and who and what is asked about.

    Raises:
        TrainingError: nobody to learn from, or a team without a folder or larger than a batch.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        identities: Sequence[Identity],
        prompts: Sequence[str],
        settings: TrainingSettings,
        *,
        runs: Path | None = None,
        pictures: Path | None = None,
        team: Team = ALONE,
        finding: Finding | None = None,
    ) -> None:
        if not identities or not prompts:
            raise TrainingError("There is nobody to learn from: add at least one identity and one general prompt.")
        if team.count > 1 and (runs is None or settings.batch_size < team.count):
            raise TrainingError(
                f"{team.count} processes need a folder of runs that all of them see, and a batch of at least"
                f" {team.count} pictures: set --runs and --batch-size."
            )
        self.held_out = hold_out(identities, prompts, settings.held_out, settings.seed)
        self._denoiser = denoiser
        self._settings = settings
        self._runs = runs
        self._kept = KeptLatents(pictures, denoiser.digest, denoiser.latent_shape)
        self._team = team
        self._finding = finding

    def learn(self, callbacks: Callbacks = NO_CALLBACKS) -> Learned:
        """Draws, warms up, learns, and gives the best prefix there was.

        Raises:
            TrainingError: no memory for a single picture, or losses that are never finite.
            MeasurementError: what is to find faces cannot be had.
        """
        started = time.monotonic()
        pairs = training_pairs(self.held_out, self._settings)
        measured = self._measured(pairs, callbacks)
        callbacks.plan(self._plan_of(self._planned, pairs, measured, self._names_unread))

        def plan_again(settings: TrainingSettings) -> None:
            if settings != self._planned:
                callbacks.plan(self._plan_of(settings, pairs, measured, names_unread=True))

        settings = dataclasses.asdict(self._settings)
        key = run_key(
            recipe=RECIPE,
            model=self._denoiser.digest,
            settings=settings,
            pairs=pairs.drawn,
            first=self._first_prompts if self._settings.conditional else None,
        )
        with in_turn(self._team, lambda: RunFolder(self._runs, key, owner=self._team.rank == 0)) as folder:
            drawing = DrawnPictures(
                self._denoiser,
                self._planned,
                pairs,
                folder,
                callbacks,
                self._team,
                self._kept,
                self._prompts(pairs, self._planned),
            )
            drawing.draw(drawing.first)
            run = Learning(
                self._denoiser,
                self._settings,
                pairs,
                len(self.held_out.learned.people),
                self._first_prompts,
                drawing,
                folder,
                callbacks,
                self._team,
                self._finding,
                plan_again,
            )
            state = run.warm_up()
            stopped = run.make_steps(state, PreviewBudget(started, drawing.seconds_a_picture))
            prefix, best, figures = run.finish(state)
        return Learned(
            prefix=prefix,
            history=tuple(state.history),
            scores=tuple(state.scores),
            best=best,
            figures=figures,
            examined=len(self.held_out.reporting.people or self.held_out.choosing.people),
            chose=bool(self.held_out.choosing.people) and not self.held_out.reporting.people,
            drawing_seconds=drawing.seconds,
            learning_seconds=state.seconds,
            stopped=stopped,
            notes=(
                *run.notes,
                *state.sentences,
                *([COMPUTED_TWICE] if self._denoiser.saves_memory else []),
                *([STREAMED] if self._denoiser.streams_weights else []),
                *([folder.trouble] if folder.trouble else []),
            ),
        )

    def plan(self, callbacks: Callbacks = NO_CALLBACKS) -> Plan:
        """What learning is going to take, at most: where names turn out not to be read, it makes fewer steps.

        Makes a dry step, and nothing that lasts.

        Raises:
            TrainingError: there is not enough memory for a single picture.
            MeasurementError: what is to find faces cannot be had.
        """
        pairs = training_pairs(self.held_out, self._settings)
        return self._plan_of(self._planned, pairs, self._measured(pairs, callbacks), self._names_unread)

    def _measured(self, pairs: TrainingPairs, callbacks: Callbacks) -> tuple[Measured, int]:
        """What a dry step measured, and the bytes that it needed kept."""
        longest = max((pair.student for pair in pairs.learned), key=len)
        micro_batches = MicroBatches(self._denoiser, 1, callbacks.check)
        with self._denoiser.gradients(self._settings.batch_size):
            vectors = start_vectors(self._denoiser, self._settings)
            measured = dry_step(self._denoiser, longest, vectors, micro_batches)
            kept_bytes = self._denoiser.count_kept()
        finding = self._finding if self._settings.face_region else None
        if finding is not None:
            with finding():  # So that what is missing for it is told now, not after hours.
                decoding, head_step = dry_head(self._denoiser, micro_batches)
            measured = dataclasses.replace(measured, decoding=decoding, head_step=head_step)
        return measured, kept_bytes

    def _plan_of(
        self, settings: TrainingSettings, pairs: TrainingPairs, measured: tuple[Measured, int], names_unread: bool
    ) -> Plan:
        return plan_of(
            self._denoiser,
            len(self.held_out.learned.people),
            pairs,
            first_shard(pairs, self._settings, self._team),
            self._prompts(pairs, settings),
            self._kept,
            settings,
            *measured,
            self._settings.face_region and self._finding is not None,
            names_unread,
        )

    @functools.cached_property
    def _first_prompts(self) -> FirstPrompts:
        return first_prompts(self.held_out.learned, self._settings.seed)

    @property
    def _names_unread(self) -> bool:
        """Whether it is known before the start that names are not going to be read."""
        return self._settings.conditional and not self._settings.init.strip() and self._first_prompts.described_alike

    @property
    def _planned(self) -> TrainingSettings:
        """The settings that are going to hold, as far as is known before the start (`Learning`)."""
        return self._settings.where_unread(at_descriptions=False) if self._names_unread else self._settings

    def _prompts(self, pairs: TrainingPairs, settings: TrainingSettings) -> int:
        layers = len(self._denoiser.layers)
        return prompts_read(pairs, self._first_prompts, settings, layers, alone=self._team.count == 1)
