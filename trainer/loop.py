"""Learns a prefix: warms up, then step by step pulls the student towards the teacher, and chooses the best."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timezone

import torch
from torch import Tensor

from ..engines.denoiser import Denoiser, Layer, Vectors
from ..engines.micro_batches import MicroBatches
from ..engines.starting.prompts import FirstPrompts
from ..engines.vectors import as_begun, gates_of
from ..prefix.errors import MeasurementError, TrainingError
from ..prefix.name_words import leaves_names_unread
from ..prefix.value import Prefix, PrefixRecord, prefix_of
from ..runs.amounts import duration
from ..runs.run_folder import RunFolder, saved_if_broken_off
from .data.drawing import DrawnPictures, shared_tensors, stages_of
from .data.pairs import TrainingPairs
from .data.pictures import Pictures
from .data.plain_text import PlainText
from .data.targets import TargetPool, slots_of_step
from .parallel.shared_work import compute, mask
from .parallel.team import Team, share
from .plan import prompts_read
from .progress import Callbacks, Progress
from .reporting.preview import PreviewBudget
from .settings import TrainingSettings
from .stages.face_region import Finding, learn_face_region
from .stages.hardening import Attackers
from .stages.known_names import KnownNames, sentences
from .stages.learnable_layers import judged, learnable, left_out_note
from .stages.warm_start import can_start, start_of, warm_start
from .start import start_vectors
from .state import RunState, Score, new_state, restore, state_to_file
from .step import MOST_SKIPPED, make_step
from .validation import Validation, steps_between, validation_pictures

BEGAN_AT_DESCRIPTIONS = "It began at the looks in the list: the text encoder tells them by the names."
NAMES_UNREAD = (
    "The words of a name are not read at all: a word for nobody in particular stands in the place of each. They are"
    " found by what the names in the list have in common, so name people of many kinds."
)

BEGAN_AT_RANDOM = (
    "It began at random, for by the names the text encoder tells too little of the looks in the list (it takes 8 people"
    " to learn from to see that): look at pictures whether people keep their looks."
)

HALF_OPEN = 0.5
"""A gate that is open less than this hardly protects."""


class Learning:
    """A run from the moment that its pictures are drawn.

    Args:
        people: that are learned from, whether pictures of them are drawn or not.
        prompts: that are read before learning, about all of these.
        drawing: of all `pairs.drawn`, of which the first are drawn already.
        folder: where the run is kept.
        planned: called with the settings that the run goes by where names turn out to be left unread.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        settings: TrainingSettings,
        pairs: TrainingPairs,
        people: int,
        prompts: FirstPrompts,
        drawing: DrawnPictures,
        folder: RunFolder,
        callbacks: Callbacks,
        team: Team,
        finding: Finding | None = None,
        planned: Callable[[TrainingSettings], None] = lambda settings: None,
    ) -> None:
        self._finding = finding
        self._planned = planned
        self._began = time.monotonic()
        self._denoiser = denoiser
        self._settings = settings
        self._pairs = pairs
        self._people = people
        self._first_prompts = prompts
        self._folder = folder
        self._callbacks = callbacks
        self._team = team
        self._micro_batches = MicroBatches(denoiser, settings.batch_size, callbacks.check)
        self._drawing = drawing
        pictures = drawing.pictures
        self._of = drawing.of
        slots = len(pairs.learned) * settings.noisings_per_picture
        self._answers = shared_tensors(denoiser, folder, team, "targets", slots, "snapshot")
        asking = MicroBatches(denoiser, settings.batch_size, callbacks.check)
        self._plain = PlainText(denoiser, folder.tensor_cache())
        self._pool = TargetPool(
            denoiser,
            Pictures(pictures.latents, pairs.learned),
            settings.noisings_per_picture,
            settings.seed,
            self._answers,
            asking,
            self._plain,
            pairs.shards,
        )
        shards_of_people = pairs.shards[: len(pairs.people) * pairs.portraits : max(1, pairs.portraits)]
        # A network learns from any name, and the more names the better.
        self._names = KnownNames(
            pictures.latents, shards_of_people, pairs.portraits, settings.seed, leaves_out=not settings.conditional
        )
        self._examine_names()
        self._spoken = pairs.spoken_without(self._names.knowledge.left_out)
        asked = validation_pictures(pairs.learned, pairs.questions)
        others = range(len(pairs.learned) + len(pairs.questions), len(pairs.drawn))
        self._validation, self._report_on = (
            Validation(denoiser, pictures, some, settings.seed, asking, team) for some in (asked, others)
        )
        self._attackers = Attackers(denoiser, self._plain, settings.seed) if settings.harden else None
        self._between = steps_between(len(self._validation), settings.batch_size)
        self._told_of_start: tuple[str, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """What is told of the run, sentences."""
        return (*sentences(self._names.knowledge, self._pairs.people, self._people), *self._told_of_start)

    def warm_up(self) -> RunState:
        """The state that steps are made from: that of the run that was broken off, or the vectors after the warm start.

        What the teacher is told in the steps to come is encoded on the way, where the text encoder is in memory.
        """
        with self._denoiser.gradients(self._settings.batch_size):
            vectors = self._start()
            unread, at_descriptions = leaves_names_unread(vectors), BEGAN_AT_DESCRIPTIONS in self._told_of_start
            if unread:
                self._go_by(self._settings.where_unread(at_descriptions))
            settings = self._settings
            state = new_state(vectors, settings, gently=unread and at_descriptions)
            warming = start_of(state.vectors)
            warming.micro_batch = settings.batch_size
            saved, begun = self._folder.load("snapshot"), self._folder.load("warm-start")
            self._team.wait()
            if saved is not None and restore(state, *saved):
                if state.step < settings.denoiser_steps:
                    state.note(f"The run was broken off and went on from step {state.step}.")
                self._micro_batches.size = state.micro_batch
            elif can_start(self._denoiser, self._spoken, settings, self._plain):
                if begun is not None and restore(warming, *begun):
                    state.note(f"The run was broken off and went on from step {warming.step} of the warm start.")
                    self._micro_batches.size = warming.micro_batch
                self._warm_start(warming)
                state.take_over(warming)
                self._save(state)
            elif settings.text_only:
                raise TrainingError(
                    "These text encoders cannot teach alone: let text_steps be more than 0, or learn with the denoiser."
                )
            for taught_at in (self._pool, self._validation, self._report_on):
                taught_at.overshoot = settings.overshoot
                taught_at.layers = state.layers or self._denoiser.layers
            self._callbacks.look(state.step, state.vectors)
            if self._team.count == 1:
                slots = self._slots(state.step, max(0, settings.denoiser_steps - state.step))
                self._pool.read(slots, self._reading(), self._read_for_the_teacher)
            if not state.step:
                self._examine_gate(state)
        return state

    def _go_by(self, settings: TrainingSettings) -> None:
        """Has what is left of the run go by other settings, and tells what it takes."""
        self._settings = settings
        alone, layers = self._team.count == 1, len(self._denoiser.layers)
        read = prompts_read(self._pairs, self._first_prompts, settings, layers, alone)
        self._of = stages_of(self._drawing.first, settings, read)
        self._planned(settings)

    def _start(self) -> dict[str, Tensor]:
        """The parameters that learning starts from; those of a network are kept, as many prompts are read for them."""
        settings, saved = self._settings, self._folder.load("start")
        self._team.wait()  # So that all have looked before the first of them saves.
        if saved is not None:
            tensors, table = saved
            self._told_of_start = tuple(table.get("told", ()))
            return as_begun(tensors, table["names"])

        def report(read: int) -> None:
            self._callbacks.report(Progress(self._of[0], 0, 0, self._of, notes=self.notes, prompts=read))

        began: list[bool] = []  # Nothing where all descriptions are alike: there are no looks to begin at.
        parameters = start_vectors(self._denoiser, settings, self._first_prompts, self._reading(), report, began.append)
        if not settings.conditional:
            return parameters
        if began:
            self._told_of_start = (BEGAN_AT_DESCRIPTIONS if any(began) else BEGAN_AT_RANDOM,)
        if leaves_names_unread(parameters):
            self._told_of_start += (NAMES_UNREAD,)
        # What is computed of states may differ by more than rounding from one device to the next.
        begun = {name: self._team.agreed(rows.detach()) for name, rows in parameters.items()}
        self._folder.save("start", begun, {"names": [*begun], "told": self._told_of_start})
        return as_begun(begun, [*begun])

    def _reading(self) -> MicroBatches:
        return MicroBatches(self._denoiser, self._settings.batch_size, self._callbacks.check)

    def _read_for_the_teacher(self, left: int) -> None:
        """So many of the prompts that the teacher is told are still to be read."""
        pictures, warmed, _, prompts = self._of
        read = Progress(pictures, warmed, 0, self._of, notes=self.notes, prompts=max(0, prompts - left))
        self._callbacks.report(read)

    def _examine_gate(self, state: RunState) -> None:
        """Notes how many prompts that name people held out the gate lets by unprotected."""
        asked = [pair.student for pair in (*self._pairs.questions, *self._pairs.reported) if pair.names_somebody]
        missed = sum(gate < HALF_OPEN for gate in gates_of(self._denoiser, state.vectors, asked))
        if missed:
            state.note(
                f"The gate took {missed} of {len(asked)} prompts that name people held out for prompts that name"
                " nobody, and would hardly protect them: name more people in the list, of more kinds."
            )

    def make_steps(self, state: RunState, preview_budget: PreviewBudget) -> str:
        """Makes the steps that are left, and validates now and then. Why it ended before the last one, or nothing."""
        before, prepared, stopped = state.seconds, state.step, no_longer_improves(state, self._settings.patience)
        drew = self._drawing.seconds
        while True:
            with saved_if_broken_off(lambda: self._save(state)):
                self._drawing.draw(self._needed(state, stopped), self._progress(state))
            self._examine_names()
            with self._denoiser.gradients(self._micro_batches.size), saved_if_broken_off(lambda: self._save(state)):
                while not (stopped or self._validation_is_due(state) or self._lacks_pictures(state)):
                    if self._team.count > 1 and state.step == prepared:
                        prepared = self._prepare_targets(state.step)
                    batch = self._pool.batch(share(self._team, self._slots(state.step)))
                    make_step(
                        self._denoiser, state, batch, self._settings, self._micro_batches, self._team, self._attackers
                    )
                    state.seconds = before + time.monotonic() - self._began - (self._drawing.seconds - drew)
                    stopped = reason_to_stop(state, self._asked_to_stop)
                    if state.step % self._settings.snapshot_every == 0 or self._validation_is_due(state):
                        self._save(state)
                    self._report(state)
                    self._callbacks.look(state.step, state.vectors)
                if self._drawing.lacks(self._needed(state, stopped)):
                    continue
                state.add_score(self._validation.score(state.vectors, state.step))
                stopped = stopped or no_longer_improves(state, self._settings.patience)
            self._save(state)
            if stopped or state.step >= self._settings.denoiser_steps:
                return stopped
            if self._team.rank == 0:
                preview_budget.show(self._callbacks.show, state.vectors)

    def finish(self, state: RunState) -> tuple[Prefix, Score, Score]:
        """The best prefix, its score and its figures; the run's folder is removed.

        Raises:
            TrainingError: there is none.
        """
        if self._attackers is not None and state.step and not state.embeddings:
            state.note(
                "What these text encoders say of prompts cannot be told apart, so nothing was learned against"
                " embeddings: 'harden' did nothing."
            )
        best = state.best_score
        if state.best is None or best is None or (state.step and state.skipped == state.step):
            self._folder.remove(is_done=False)
            raise TrainingError(
                "The loss is not a finite number at any step: lower the learning rate, or run the model"
                " in a wider number format (start ComfyUI with --force-fp32)."
            )
        self._drawing.draw(self._report_on.pictures, self._progress(state))
        layers, figures = self._layers(state, state.best), self._figures(state.best, best)
        if self._team.rank == 0:
            self._callbacks.show(state.best)
        record = PrefixRecord(
            family=self._denoiser.family,
            fingerprint=self._denoiser.fingerprint,
            settings=dataclasses.asdict(self._settings),
            identities=self._people - len(self._names.knowledge.left_out),
            steps=state.step,
            date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            layers=self._denoiser.record_layers(layers),
            scores={
                "identity_signal_left": figures.identities,
                "general_prompts_moved": figures.general,
                "best_step": figures.step,
            },
        )
        prefix = self._with_face_region(prefix_of(state.best, record), state)
        self._folder.remove()
        return prefix, best, figures

    def _with_face_region(self, prefix: Prefix, state: RunState) -> Prefix:
        """The prefix with word of where faces are, if the settings ask for it; the run is saved by now.

        Where that cannot be learned it is noted, and the prefix is whole without.
        """
        if not self._settings.face_region or self._team.rank:
            return prefix
        if self._finding is None:
            state.note("It was not learned where faces are, because nothing was there to find them with.")
            return prefix
        known = self._drawing.pictures.latents.known()
        learned = [index for index in known if index < len(self._pairs.learned)]
        pairs = self._drawing.pictures.pairs
        unmet = [index for index in known if index >= len(self._pairs.learned) and pairs[index].names_somebody]

        def report(done: int, of: int) -> None:
            self._callbacks.report(dataclasses.replace(self._progress(state), face_region=(done, of)))

        try:
            with self._finding() as finder:
                found = learn_face_region(
                    self._denoiser,
                    prefix.parameters,
                    self._drawing.pictures,
                    learned,
                    unmet,
                    finder,
                    self._settings.seed,
                    self._reading(),
                    report,
                )
        except (TrainingError, MeasurementError) as error:
            state.note(f"It was not learned where faces are: {error}")
            return prefix
        state.note(
            f"Where faces are was learned in {duration(found.seconds)} from {found.found} pictures; on others, what it"
            f" covers and the faces overlap by {found.mean_overlap:.0%}."
        )
        return found.joined(prefix)

    def _layers(self, state: RunState, vectors: Vectors) -> Sequence[Layer]:
        """Those that were learned at and at which the best prefix does something.

        What a conditional prefix does is seen in what the denoiser makes of a prompt, not in what its words say. Where
        it does not read names, it reads them at no layer.
        """
        layers = self._pool.layers
        if len(layers) == 1 or leaves_names_unread(vectors):
            return layers
        with self._denoiser.gradients(self._micro_batches.size):
            if self._settings.conditional:
                left = self._validation.left_by_layer(vectors)
                layers = learnable(left, finished=True)
                note = left_out_note(left, layers)
            else:
                layers, note = judged(
                    self._denoiser, vectors, self._spoken, layers, self._plain, self._team, finished=True
                )
        if note:
            state.note(note)
        return layers

    def _figures(self, vectors: Vectors, best: Score) -> Score:
        """The best prefix's, about people and prompts that chose nothing; without such, about those that chose it."""
        asked = {kind for kind in (True, False) if self._report_on.asks(kind)}
        if not asked:
            return best
        with self._denoiser.gradients(self._micro_batches.size):
            found = self._report_on.score(vectors, best.step)
        return Score(
            best.step,
            found.identities if True in asked else best.identities,
            found.general if False in asked else best.general,
        )

    def _warm_start(self, warming: RunState) -> None:
        """Makes the steps of the warm start that are left; saved now and then, and where it is broken off."""

        def save() -> None:
            self._folder.save("warm-start", *state_to_file(warming))

        def report(made: int) -> None:
            if made % self._settings.snapshot_every == 0:
                save()
            read = len(self._first_prompts.all) if self._settings.conditional else 0
            self._callbacks.report(Progress(self._of[0], made, 0, self._of, notes=self.notes, prompts=read))

        with saved_if_broken_off(save):
            warm_start(
                self._denoiser,
                warming,
                self._spoken,
                self._settings,
                self._micro_batches,
                self._plain,
                report,
                self._team,
            )

    def _examine_names(self) -> None:
        """Has nothing learned from names that the model does not seem to know, of those whose portraits are drawn."""
        if self._names.examine():
            self._pool.leave_out(self._pairs.learned_of(self._names.knowledge.left_out))

    def _prepare_targets(self, step: int) -> int:
        """Has the team compute the targets of the steps from this one on; the step that they reach to."""
        until = min(step + self._settings.snapshot_every, self._settings.denoiser_steps)
        compute(self._team, self._answers, self._slots(step, until - step), self._pool.prepare)
        return until

    def _slots(self, step: int, count: int = 1) -> list[int]:
        """The slots of the pool that some steps from this one on learn from."""
        settings = self._settings
        return slots_of_step(self._pool, settings.batch_size, settings.seed, step, count, settings.named_share)

    def _asked_to_stop(self) -> bool:
        return bool(self._team.agreed(torch.tensor(float(self._callbacks.stop()))))

    def _validation_is_due(self, state: RunState) -> bool:
        """Whether the vectors are to be examined before the next step is made; those of the warm start are at once."""
        if state.step >= self._settings.denoiser_steps:
            return True
        validated = state.scores[-1].step if state.scores else -1
        return state.step % self._between == 0 and state.step > validated

    def _needed(self, state: RunState, stopped: str) -> Sequence[int]:
        """The pictures that what comes next asks about: a validation, or a step."""
        if stopped or self._validation_is_due(state):
            return self._validation.pictures
        return self._pool.pictures(self._slots(state.step))

    def _lacks_pictures(self, state: RunState) -> bool:
        """Whether the next step wants pictures that are not drawn yet."""
        return self._drawing.lacks(slot // self._settings.noisings_per_picture for slot in self._slots(state.step))

    def _report(self, state: RunState) -> None:
        self._callbacks.report(self._progress(state))

    def _progress(self, state: RunState) -> Progress:
        losses = state.history[-1] if state.history else None
        pictures, warmed, _, prompts = self._of
        return Progress(
            pictures=pictures,
            text_steps=warmed,
            steps=state.step,
            of=self._of,
            losses=losses,
            score=state.best_score,
            history=state.history,
            notes=self.notes,
            scores=state.scores,
            prompts=prompts,
        )

    def _save(self, state: RunState) -> None:
        """Saves the run, with word of which of the teacher's answers are kept."""
        tensors, table = state_to_file(state)
        self._folder.save("snapshot", {**tensors, "known": mask(self._answers)}, table)


def reason_to_stop(state: RunState, stop: Callable[[], bool]) -> str:
    """Why the run is to end before its last step, a sentence; empty if it is not."""
    if state.skipped_in_a_row >= MOST_SKIPPED:
        return f"It ended at step {state.step}, because the loss was not finite for {MOST_SKIPPED} steps in a row."
    return f"You stopped it at step {state.step}." if stop() else ""


def no_longer_improves(state: RunState, patience: int) -> str:
    """Why the run is to end because so many validations since the best one were worse, a sentence, or nothing."""
    best = state.best_score
    since = 0 if best is None else sum(score.step > best.step for score in state.scores)
    if not patience or since < patience:
        return ""
    return f"It ended at step {state.step}, because nothing had become better since step {best.step if best else 0}."
