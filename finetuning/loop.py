"""Fine-tunes a denoiser on pictures with captions, step by step, and draws with what came of it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..engines.clean import picture_weights
from ..engines.denoiser import WORDS, Denoiser, Tuned, Vectors
from ..engines.gradient_flow import gradient_through
from ..engines.micro_batches import MicroBatches
from ..engines.vectors import CLIP_SPREAD, new_vectors, scale_free_adam, scale_free_group
from ..prefix.errors import TrainingError
from ..runs.digest import digest_of
from ..runs.run_folder import RunFolder, run_key, saved_if_broken_off
from ..runs.seeds import generator, rate_factor
from .distillation import Answers, Distillation, answers_of, unlikeness
from .drawings import Drawings, DrawnStates
from .progress import NO_CALLBACKS, FinetuningCallbacks, FinetuningPlan
from .settings import EMBEDDING, FinetuningSettings
from .state import TuningState, restore, state_to_file
from .training_set import TrainingSet

RECIPE = 2
"""Raised when the same arguments no longer give the same model, so that no run of an older version is gone on with."""

MOST_SKIPPED = 8
"""Fine-tuning ends when so many steps in a row had to be skipped."""

MOST_SAVED = 2**31
"""Bytes of weights and optimizer that are saved on the way; more would take longer to write than it saves."""

NOTHING = ""
"""The prompt of the prediction that guidance draws away from."""

WARMUP = 0.05
"""Share of the steps over which the rate rises."""


class Finetuned:
    """What came of fine-tuning.

    Attributes:
        denoiser: draws with the weights that were learned; only inside of `finetuned`.
        vectors: those of an embedding, which stand before every prompt; None for other kinds.
        weights: those that were learned, by name, as `engines.denoiser.Tuned` has them; none of an embedding.
        history: the loss of every step.
        seconds: spent in this process.
        stopped: why it ended before its last step, a sentence; empty if it did not.
        notes: what else happened, sentences.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        vectors: Vectors | None,
        weights: Mapping[str, Tensor],
        state: TuningState,
        seconds: float,
        stopped: str,
        notes: Sequence[str],
    ) -> None:
        self.denoiser = denoiser
        self.vectors = vectors
        self.weights = weights
        self.history = tuple(state.history)
        self.seconds = seconds
        self.stopped = stopped
        self.notes = tuple(notes)

    def draw(
        self, prompts: Sequence[str], seeds: Sequence[int], at_once: int = 8, check: Callable[[], None] = lambda: None
    ) -> Tensor:
        """Pictures `[n, height, width, 3]` in 0 to 1, one for each prompt and seed."""
        micro_batches = MicroBatches(self.denoiser, at_once, check)
        drawn = micro_batches.work(
            lambda some: self.denoiser.decode(
                self.denoiser.sample([prompts[i] for i in some], [seeds[i] for i in some], self.vectors)
            ),
            range(len(prompts)),
        )
        return torch.cat([pictures.float().cpu() for pictures in drawn])


@contextmanager
def finetuned(
    denoiser: Denoiser,
    training_set: TrainingSet,
    settings: FinetuningSettings,
    callbacks: FinetuningCallbacks = NO_CALLBACKS,
    runs: Path | None = None,
    distillation: Distillation | None = None,
    *,
    is_result: bool = False,
) -> Iterator[Finetuned]:
    """Fine-tunes; inside, what came of it draws. The denoiser itself stays as it is, to the last bit.

    The same model, training set, settings and machine give the same weights, however often it was broken off and gone
    on with.

    Args:
        runs: the folder of unfinished runs, where one that was broken off, also inside, is gone on with; None to keep
            nothing.
        distillation: has the denoiser, altered, learn its own answers while it draws; weights are learned, not an
            embedding, and of the training set its captions, and where the first drawings begin. What is yielded draws
            as the denoiser does without the alteration.
        is_result: whether what is learned is what the whole run is for, and so may be kept as
            `run_folder.kept_once_done` tells; else whoever calls keeps what came of it.

    Raises:
        TrainingError: not enough memory for a single picture, losses that are never finite, or a model that cannot be
            fine-tuned in that way.
    """
    chosen = settings.resolved(denoiser)
    tuned: Tuned | None = None
    vectors: dict[str, Tensor] | None = None
    with torch.inference_mode(False):
        if chosen.kind == EMBEDDING:
            vectors = new_vectors(denoiser, chosen.init, chosen.vectors, generator(chosen.seed, "embedding"))
        else:
            tuned = denoiser.tuned(chosen.kind, chosen.rank, chosen.text_encoder, chosen.seed, chosen.new_words)
    learner = denoiser if tuned is None else tuned.denoiser
    try:
        about = {} if distillation is None else {"distillation": distillation.digest}
        key = run_key(recipe=RECIPE, model=denoiser.digest, settings=chosen, training_set=training_set.digest, **about)
        with RunFolder(runs, key) as folder:
            teacher = None
            if distillation is not None and tuned is not None:
                with torch.inference_mode(False):  # What drawings hold is written over while weights learn.
                    teacher = _Teacher(denoiser, tuned, distillation, training_set, chosen)
            run = _Run(learner, training_set, chosen, callbacks, folder, vectors, tuned, teacher)
            result = run.learn()
            learner.digest = denoiser.digest if tuned is None else digest_of(denoiser.digest, dict(tuned.weights))
            yield result
            # Not before: whoever is broken off while drawing need not learn anew.
            folder.remove(is_done=is_result)
    finally:
        if tuned is not None:
            tuned.close()


class _Teacher:
    """The denoiser as it is without what is learned, beside the altered one that learns.

    Attributes:
        drawings: in whose states it is asked.
        altered, watched, guidance, guided_weight: see `Distillation`.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        tuned: Tuned,
        distillation: Distillation,
        training_set: TrainingSet,
        settings: FinetuningSettings,
    ) -> None:
        self._denoiser = denoiser
        self._tuned = tuned
        self.altered = distillation.altered
        self.watched = distillation.watched
        self.guidance = distillation.guidance
        self.guided_weight = distillation.guided_weight
        self.drawings = Drawings(
            denoiser,
            training_set.captions,
            distillation.steps,
            settings.batch_size,
            settings.seed,
            distillation.until,
        )
        self.drawings.begin_apart(training_set.latents, training_set.captions)

    @torch.no_grad()
    def answers(
        self, noised: Tensor, t: Tensor, conditioning: Sequence[Any], nothing: Any
    ) -> tuple[Answers, Mapping[str, Tensor]]:
        """What the altered denoiser is to answer, and its blocks."""
        with self._tuned.paused(), self.watched() as blocks:
            return answers_of(self._denoiser, noised, t, conditioning, nothing, self.guidance), dict(blocks)


@dataclass(frozen=True)
class _Batch:
    """What a step learns from.

    Attributes:
        noised: `[n, *latent_shape]`.
        t: `[n]`.
        captions: n.
        target: `[n, *latent_shape]`, what is to be answered; of drawings empty, as a teacher says it.
        weights: `[n]`, of errors of it; None for ones.
        states: of drawings.
    """

    noised: Tensor
    t: Tensor
    captions: tuple[str, ...]
    target: Tensor = field(default_factory=lambda: torch.zeros(0))
    weights: Tensor | None = None
    states: DrawnStates | None = None


def _distances(found: Tensor, wanted: Tensor) -> Tensor:
    """Mean squares of the differences, `[n]`."""
    return (found - wanted.to(found)).square().flatten(1).mean(1)


class _Run:
    """Fine-tuning from its first step to its last."""

    def __init__(
        self,
        denoiser: Denoiser,
        training_set: TrainingSet,
        settings: FinetuningSettings,
        callbacks: FinetuningCallbacks,
        folder: RunFolder,
        vectors: dict[str, Tensor] | None,
        tuned: Tuned | None,
        teacher: _Teacher | None = None,
    ) -> None:
        self._denoiser = denoiser
        self._teacher = teacher
        self._training_set = training_set
        self._settings = settings
        self._callbacks = callbacks
        self._folder = folder
        self._vectors = vectors
        self._weights: dict[str, Tensor] = dict(tuned.weights) if tuned is not None else dict(vectors or {})
        # What prompts say does not change where the text encoder does not, and so is read but once.
        self._reads_anew = vectors is not None or settings.text_encoder
        self._read: dict[str, Any] = {}
        self._orders: dict[int, list[int]] = {}
        self._micro_batches = MicroBatches(denoiser, settings.batch_size, callbacks.check)

    def learn(self) -> Finetuned:
        """Makes the steps that are left."""
        settings, began, stopped = self._settings, time.monotonic(), ""
        asked_for_each = 1 if self._teacher is None or self._teacher.guidance == 1 else 2
        with self._denoiser.gradients(settings.batch_size * asked_for_each):
            state = self._new_state()
            saved = self._folder.load("snapshot")
            if saved is not None and restore(state, *saved, self._drawings):
                if state.step >= settings.steps:
                    state.note("It had been learned before, and was not learned again.")
                else:
                    state.note(f"It was broken off, and went on from step {state.step}.")
            if state.step < settings.steps:
                self._callbacks.plan(self._plan(state))
            with saved_if_broken_off(lambda: self._save(state)):
                while state.step < settings.steps and not stopped:
                    self._step(state)
                    if state.skipped_in_a_row >= MOST_SKIPPED:
                        raise TrainingError(
                            f"The loss was not a finite number for {MOST_SKIPPED} steps in a row: lower the learning"
                            " rate, or run the model in a wider number format."
                        )
                    if state.step % settings.snapshot_every == 0:
                        self._save(state)
                    self._callbacks.report(state.step, settings.steps, state.history[-1])
                    stopped = f"You stopped it at step {state.step}." if self._callbacks.stop() else ""
            if state.step % settings.snapshot_every:
                self._save(state)
        vectors = None if self._vectors is None else {key: rows.detach() for key, rows in self._vectors.items()}
        learned = {} if self._vectors is not None else self._weights
        weights = {name: weight.detach() for name, weight in learned.items()}
        notes = [*state.notes, *([self._folder.trouble] if self._folder.trouble else [])]
        return Finetuned(self._denoiser, vectors, weights, state, time.monotonic() - began, stopped, notes)

    def _new_state(self) -> TuningState:
        settings = self._settings
        if settings.kind == EMBEDDING:
            optimizer = scale_free_adam(self._weights, settings.learning_rate / CLIP_SPREAD)
        else:
            rows = {name: weight for name, weight in self._weights.items() if name.startswith(WORDS)}
            others = [weight for name, weight in self._weights.items() if name not in rows]
            rate = settings.word_rate(self._denoiser) / CLIP_SPREAD
            groups = [{"params": others, "peak": settings.learning_rate}]
            optimizer = torch.optim.Adam(groups + [scale_free_group(row, rate) for row in rows.values()])
        return TuningState(self._weights, optimizer)

    def _plan(self, state: TuningState) -> FinetuningPlan:
        """What it takes, after a dry step, in which memory is tried as well."""
        batch = self._batch("dry")
        seconds = 0.0
        for _ in range(2):  # The first time also pays for what is done once.
            began = time.perf_counter()
            self._gradients(batch, 1.0)
            seconds = time.perf_counter() - began
        self._denoiser.free_memory()
        return FinetuningPlan(
            steps=self._settings.steps - state.step,
            parameters=sum(weight.numel() for weight in self._weights.values()),
            kept_bytes=self._denoiser.count_kept() * min(self._micro_batches.size, self._settings.batch_size),
            state_bytes=state.bytes,
            seconds=seconds * (self._settings.steps - state.step),
        )

    def _step(self, state: TuningState) -> None:
        """One step of the optimizer; one whose loss or gradient is not finite changes nothing but rate and scale."""
        settings = self._settings
        batch = self._batch("steps", state.step)
        halved = self._micro_batches.halved
        losses, gradients, answers = self._gradients(batch, state.loss_scale)
        if self._teacher is not None and batch.states is not None:
            self._teacher.drawings.go_on(batch.states, answers)
        if self._micro_batches.halved > halved:
            state.note(
                f"Memory ran out at step {state.step + 1}: from there on each step took its batch in parts of"
                f" {self._micro_batches.size}."
            )
        state.step += 1
        if not all(bool(torch.isfinite(gradient).all()) for gradient in gradients) or not math.isfinite(losses):
            state.history.append(math.nan)
            state.skipped_in_a_row += 1
            if math.isfinite(losses) and state.loss_scale > 1:
                state.loss_scale /= 16
            else:
                state.rate /= 2
            return
        for group in state.optimizer.param_groups:
            group["lr"] = group["peak"] * rate_factor(state.step - 1, settings.steps, WARMUP) * state.rate
        for weight, gradient in zip(self._weights.values(), gradients, strict=True):
            weight.grad = (gradient / state.loss_scale).to(weight)
        state.optimizer.step()
        state.optimizer.zero_grad(set_to_none=True)
        state.history.append(losses)
        state.skipped_in_a_row = 0

    def _chosen(self, step: int) -> list[int]:
        """The examples of a step, by number: all come equally often."""
        count, size = len(self._training_set.captions), self._settings.batch_size
        chosen = []
        for place in range(step * size, (step + 1) * size):
            turn, within = divmod(place, count)
            if turn not in self._orders:
                random = generator(self._settings.seed, "fine-tuning order", turn)
                self._orders = {turn: torch.randperm(count, generator=random).tolist()}
            chosen.append(self._orders[turn][within])
        return chosen

    def _draws(self, count: int, purpose: str, step: int = 0) -> tuple[Tensor, Tensor]:
        """Times `[count]`, spread evenly, and noise `[count, *latent_shape]` of a step."""
        random = generator(self._settings.seed, f"fine-tuning {purpose}", step)
        t = (torch.arange(count) + torch.rand(count, generator=random)) / count
        return t.clamp(1e-3, 1 - 1e-3), torch.randn(count, *self._denoiser.latent_shape, generator=random)

    def _batch(self, purpose: str, step: int = 0) -> _Batch:
        """What a step learns from: where drawings are, or pictures with noise."""
        if self._teacher is not None:
            states = self._teacher.drawings.states(step)
            return _Batch(states.noised, states.t, states.captions, states=states)
        chosen = self._chosen(step)
        t, noise = self._draws(len(chosen), purpose, step)
        latents = self._training_set.latents[chosen]
        captions = tuple(self._training_set.captions[index] for index in chosen)
        noised = self._denoiser.add_noise(latents, noise, t)
        weights = picture_weights(self._denoiser, t) if self._settings.has_new_words else None
        return _Batch(noised, t, captions, self._denoiser.target(latents, noise, t), weights)

    def _gradients(self, batch: _Batch, scale: float) -> tuple[float, list[Tensor], Tensor]:
        """Mean loss over examples, its gradient for each weight, times the scale, and what drawings go on by."""
        weights = list(self._weights.values())

        def part_of(places: Sequence[int]) -> tuple[Tensor, list[Tensor], Tensor]:
            some = list(places)
            noised, t = batch.noised[some], batch.t[some]
            conditioning = self._conditioning([batch.captions[place] for place in some])
            teacher, answers = self._teacher, noised
            if teacher is None or batch.states is None:
                predicted = self._denoiser.predict(noised, t, conditioning)
                losses = _distances(predicted, batch.target[some])
                if batch.weights is not None:
                    losses = losses * batch.weights[some].to(losses)
                found = self._differentiated(losses, weights, scale / len(batch.captions))
            else:
                (nothing,) = self._conditioning([NOTHING])
                wanted, wanted_blocks = teacher.answers(noised, t, conditioning, nothing)
                # In the backward pass as well, where blocks may be computed anew.
                with teacher.altered(), teacher.watched() as blocks:
                    own = answers_of(self._denoiser, noised, t, conditioning, nothing, teacher.guidance)
                    losses = teacher.guided_weight * _distances(own.guided, wanted.guided)
                    if teacher.guidance != 1:
                        losses = losses + _distances(own.conditional, wanted.conditional)
                    losses = losses + unlikeness(blocks, wanted_blocks)
                    found = self._differentiated(losses, weights, scale / len(batch.captions))
                goes_by_own = batch.states.own[some].reshape(-1, *[1] * (noised.ndim - 1))
                answers = torch.where(goes_by_own, own.guided.detach().cpu(), wanted.guided.cpu()).float()
            if all(gradient is None for gradient in found):
                raise TrainingError(
                    "No weight of this model takes part in its pictures in a way that can be learned: connect the"
                    " model as its loader made it."
                )
            gradients = [
                torch.zeros_like(weight) if gradient is None else gradient
                for weight, gradient in zip(weights, found, strict=True)
            ]
            return losses.detach().cpu(), gradients, answers

        parts = self._micro_batches.work(part_of, range(len(batch.captions)))
        losses = torch.cat([losses for losses, _, _ in parts])
        gradients = parts[0][1]
        for _, more, _ in parts[1:]:
            for gradient, other in zip(gradients, more, strict=True):
                gradient.add_(other)
        return float(losses.mean()), gradients, torch.cat([answers for _, _, answers in parts])

    def _differentiated(self, losses: Tensor, weights: Sequence[Tensor], scale: float) -> tuple[Tensor | None, ...]:
        with gradient_through("model"):
            return torch.autograd.grad(losses.sum() * scale, weights, allow_unused=True)

    @property
    def _drawings(self) -> Drawings | None:
        return None if self._teacher is None else self._teacher.drawings

    def _conditioning(self, prompts: Sequence[str]) -> list[Any]:
        if self._reads_anew:
            return list(self._denoiser.encode(prompts, self._vectors))
        missing = [prompt for prompt in dict.fromkeys(prompts) if prompt not in self._read]
        if missing:
            with torch.no_grad():
                self._read.update(zip(missing, self._denoiser.encode(missing), strict=True))
        return [self._read[prompt] for prompt in prompts]

    def _save(self, state: TuningState) -> None:
        if state.bytes > MOST_SAVED:
            state.note("So many weights are not saved on the way: broken off, it would start anew.")
            return
        tensors, table = state_to_file(state, self._drawings)
        if state.step >= self._settings.steps:  # Two thirds of it, and nobody goes on from there.
            tensors = {name: value for name, value in tensors.items() if not name.startswith("optimizer.")}
        self._folder.save("snapshot", tensors, table)
