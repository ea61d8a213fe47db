"""Tells what a run takes before anything is drawn: by counting, and by a dry step that tries the memory too."""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ..engines.denoiser import Denoiser, Vectors
from ..engines.gradient_flow import gradient_through
from ..engines.micro_batches import MicroBatches
from ..engines.starting.prompts import FirstPrompts
from ..engines.vectors import learned
from ..prefix.meta_network import with_open_gates
from ..runs.amounts import duration, gigabytes
from ..runs.kept_latents import KeptLatents
from .data.pairs import TrainingPairs
from .data.shards import come_to
from .data.targets import named_before
from .settings import TrainingSettings
from .stages.face_region import STEPS, Needed, needed
from .stages.hardening import PROMPTS
from .stages.warm_start import PAIRS_OF_A_KIND
from .validation import MOST_ASKED, NOISES, spread, steps_between, validation_pictures

BACKWARD = 2
"""Forward passes that a backward pass counts as."""


@dataclass(frozen=True)
class Evaluations:
    """How often a run asks the denoiser, in forward passes of one picture; a backward pass counts as two.

    Attributes:
        drawing: for the pictures to learn from.
        teaching: for the teacher's answers, each of which is asked for once.
        learning: for the student's, with their backward passes.
        validation: for the snapshots that are examined.
        face_region: for where faces are.
    """

    drawing: int
    teaching: int
    learning: int
    validation: int
    face_region: int = 0

    @property
    def whole(self) -> int:
        """All of them."""
        return self.drawing + self.teaching + self.learning + self.validation + self.face_region


@dataclass(frozen=True)
class Measured:
    """What the dry step measured, in seconds for one picture.

    Attributes:
        predicting: an evaluation of the denoiser without gradient.
        reading: the text encoder without gradient.
        learning: text encoder and denoiser with their backward passes.
        decoding: what finds faces is shown.
        head_step: of what learns where they are, whole.
    """

    predicting: float
    reading: float
    learning: float
    decoding: float = 0.0
    head_step: float = 0.0

    @property
    def encoding(self) -> float:
        """The text encoder with its backward pass."""
        return (1 + BACKWARD) * self.reading


@dataclass(frozen=True)
class Plan:
    """What a run takes.

    Attributes:
        people: that are learned from.
        pictures: that are drawn to learn from.
        evaluations: of the denoiser, without those of previews, which take a share of the time.
        prompts: that the text encoder reads before the first step, for what is begun from and for the teacher.
        seconds: of drawing before anything is learned, of the warm start, of reading those prompts, of learning with
            all that is drawn while it goes on, and of where faces are, without finding them; at most: batches make a
            graphics card faster.
        kept_bytes: that a step's backward pass needs kept, as the dry step left it: with blocks computed twice if it
            went over to that.
        disk_bytes: that unfinished work takes until the run ends.
    """

    people: int
    pictures: int
    prompts: int
    evaluations: Evaluations
    seconds: tuple[float, float, float, float, float]
    kept_bytes: int
    disk_bytes: int

    @property
    def table(self) -> dict[str, float]:
        """The plan as JSON values."""
        return {
            "people": self.people,
            "pictures": self.pictures,
            "prompts": self.prompts,
            "evaluations": self.evaluations.whole,
            "seconds": round(sum(self.seconds), 1),
            "kept_bytes": self.kept_bytes,
            "disk_bytes": self.disk_bytes,
        }

    @property
    def words(self) -> str:
        """The plan in a line, for people."""
        return (
            f"{self.people} people, {self.pictures} pictures to draw, {self.evaluations.whole:,} evaluations of the"
            f" model, {duration(sum(self.seconds))}, {gigabytes(self.kept_bytes)} of memory beside the model,"
            f" {gigabytes(self.disk_bytes)} of disk until it ends"
        )


def plan_of(
    denoiser: Denoiser,
    people: int,
    pairs: TrainingPairs,
    first: Sequence[int],
    prompts: int,
    kept: KeptLatents,
    settings: TrainingSettings,
    measured: Measured,
    kept_bytes: int,
    finds_faces: bool = False,
    names_unread: bool = False,
) -> Plan:
    """What a run takes.

    Args:
        people: that are learned from.
        prompts: see `prompts_read`.
        first: the pictures that are drawn before anything is learned.
        kept: pictures of runs before, which are not drawn anew.
        kept_bytes: of one picture.
        finds_faces: whether it is learned where they are.
        names_unread: whether it is known that names are not going to be read.
    """
    wanted = pictures_drawn(pairs, first, settings)
    drawn = {i for i in wanted if pairs.drawn[i].names_somebody or pairs.drawn[i].student not in kept}
    region = _face_region(denoiser, pairs, wanted) if finds_faces else Needed(0, 0)
    judged = 0 if names_unread else len(denoiser.layers)
    evaluations = count_evaluations(denoiser.evaluations_a_picture, len(drawn), pairs, settings, judged)
    evaluations = dataclasses.replace(evaluations, face_region=region.evaluations)
    early = len(drawn.intersection(first))
    picture = denoiser.evaluations_a_picture * measured.predicting + measured.reading
    learning = settings.denoiser_steps * settings.batch_size * measured.learning
    if settings.harden:  # Each prompt is read twice where vectors are made for it, and its gradient is taken.
        learning += settings.denoiser_steps * PROMPTS * 2 * measured.encoding
    return Plan(
        people=people,
        pictures=len(drawn),
        prompts=prompts,
        evaluations=evaluations,
        seconds=(
            early * picture,
            settings.text_steps * 2 * PAIRS_OF_A_KIND * measured.encoding,
            prompts * measured.reading,
            learning
            + (len(drawn) - early) * picture
            + evaluations.teaching * measured.predicting
            + evaluations.validation * (measured.predicting + measured.reading),
            region.evaluations * (measured.predicting + measured.reading)
            + region.pictures * measured.decoding
            + finds_faces * STEPS * measured.head_step,
        ),
        kept_bytes=kept_bytes * settings.batch_size,
        disk_bytes=4
        * torch.Size(denoiser.latent_shape).numel()
        * (len(wanted) + len(pairs.learned) * settings.noisings_per_picture),
    )


def _face_region(denoiser: Denoiser, pairs: TrainingPairs, drawn: set[int]) -> Needed:
    """What it takes to learn where faces are, of pictures that a run has drawn."""
    learned = len(pairs.learned)
    held_out = [index for index in sorted(drawn) if index >= learned and pairs.drawn[index].names_somebody]
    return needed(denoiser, pairs.drawn, [index for index in sorted(drawn) if index < learned], held_out)


def prompts_read(
    pairs: TrainingPairs, first: FirstPrompts, settings: TrainingSettings, layers: int, alone: bool = True
) -> int:
    """The prompts that are read before the first step: those of `start`, and what the teacher is told at each layer.

    Args:
        layers: that are learned at.
        alone: whether one process learns; of several, each reads what it asks the teacher as it comes to it.
    """
    read = len(first.all) if settings.conditional else 0
    if alone and settings.denoiser_steps:
        told = {pair.teacher for pair in pairs.learned}
        if settings.overshoot:
            told |= {pair.student for pair in pairs.learned if pair.overshoots}
        read += layers * len(told)
    return read


def pictures_drawn(pairs: TrainingPairs, first: Sequence[int], settings: TrainingSettings) -> set[int]:
    """The pictures that a run draws if it makes all its steps; see `data.shards`.

    Args:
        first: those that are drawn before anything is learned.
    """
    learned, questions = len(pairs.learned), len(pairs.questions)
    shown = settings.denoiser_steps * settings.batch_size
    named = named_before(settings.denoiser_steps, settings.batch_size, settings.named_share)
    drawn = {*first, *range(learned + questions, len(pairs.drawn))}
    for kind, count in ((True, named), (False, shown - named)):
        drawn.update(come_to(pairs.learned, pairs.shards, settings.noisings_per_picture, count, kind))
        asked = validation_pictures(pairs.learned, pairs.questions)
        drawn.update(spread([index for index in asked if pairs.drawn[index].names_somebody is kind], MOST_ASKED))
    return drawn


def count_evaluations(
    each: int, pictures: int, pairs: TrainingPairs, settings: TrainingSettings, layers: int
) -> Evaluations:
    """Counts them.

    Args:
        each: that drawing a picture takes.
        pictures: that are drawn.
        layers: that are judged. At which of them a conditional prefix holds is asked once more at the end.
    """
    learned, questions, reported = pairs.learned, pairs.questions, pairs.reported
    shown = settings.denoiser_steps * settings.batch_size
    people = [pair for pair in learned if pair.names_somebody]
    dealt = named_before(settings.denoiser_steps, settings.batch_size, settings.named_share)
    named = min(dealt, settings.noisings_per_picture * len(people))
    past = sum(pair.overshoots for pair in people) / max(1, len(people)) if settings.overshoot else 0.0
    general = min(shown - dealt, settings.noisings_per_picture * (len(learned) - len(people)))
    drawn = [*learned, *questions, *reported]
    asked = Counter(drawn[index].names_somebody for index in validation_pictures(learned, questions))
    examined = NOISES * sum(min(count, MOST_ASKED) for count in asked.values())
    times = 1 + -(-settings.denoiser_steps // steps_between(examined, settings.batch_size))
    judged = int(settings.conditional and layers > 1)
    return Evaluations(
        drawing=each * pictures,
        teaching=round(named * (1 + past)) + general,
        learning=shown * (1 + BACKWARD),
        validation=examined * (2 + times + judged) + 3 * NOISES * len(reported),
    )


def dry_step(denoiser: Denoiser, prompt: str, vectors: Vectors, micro_batches: MicroBatches) -> Measured:
    """Makes the passes of a step for one picture of noise; inside `Denoiser.gradients`. Nothing is learned.

    Where memory lacks, the denoiser goes over to a way that needs less.

    Args:
        prompt: the longest of the run.
        vectors: a prefix, whose gradient is computed and thrown away.

    Raises:
        TrainingError: there is not enough memory for a single picture.
    """
    noise, half = torch.zeros(1, *denoiser.latent_shape), torch.tensor([0.5])
    parameters = learned(vectors)

    def passes(_: Sequence[int]) -> Measured:
        began = time.perf_counter()
        with torch.no_grad():
            told = denoiser.encode([prompt])
            encoded = time.perf_counter()
            denoiser.predict(noise, half, told).cpu()
        predicted = time.perf_counter()
        loss = denoiser.predict(noise, half, denoiser.encode([prompt], with_open_gates(vectors))).square().mean()
        with gradient_through("text encoder or the denoiser"):
            gradients = torch.autograd.grad(loss, parameters)
        [gradient.cpu() for gradient in gradients]
        learned = time.perf_counter()
        return Measured(predicted - encoded, encoded - began, learned - predicted)

    for _ in range(2):  # The first time also pays for what is done once, such as choosing kernels.
        (measured,) = micro_batches.work(passes, [0])
    denoiser.free_memory()
    return measured
