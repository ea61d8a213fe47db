"""Without this module nothing would be learned: draw, then step by step pull the student towards the teacher."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import NamedTuple

import torch
from torch import Tensor

from ..prefix.errors import TrainingError
from ..prefix.value import Prefix, PrefixRecord
from .data import draw_pictures, general_pairs, identity_pairs
from .denoiser import Denoiser, Vectors
from .identities import Identity
from .objective import distances
from .schedule import rate_factor
from .seeds import generator as seeded
from .settings import TrainingSettings
from .targets import Batch, TargetPool

DRAWN_AT_ONCE = 2
"""Pictures are drawn this many batches at a time: without gradients they need less memory."""


class Losses(NamedTuple):
    """Mean distance between student and teacher in one step, by kind of prompt; NaN where the batch had none of it."""

    identities: float
    general: float


class Progress(NamedTuple):
    """How far a run is, in pictures drawn and steps made. Both totals are known from the start."""

    pictures: int
    all_pictures: int
    steps: int
    all_steps: int
    losses: Losses | None = None


@dataclass(frozen=True)
class Learned:
    """A learned prefix, the losses of every step, and the seconds it took to draw the pictures and to learn."""

    prefix: Prefix
    history: tuple[Losses, ...]
    drawing_seconds: float
    learning_seconds: float


def learn_prefix(
    denoiser: Denoiser,
    identities: Sequence[Identity],
    prompts: Sequence[str],
    settings: TrainingSettings,
    report: Callable[[Progress], None] = lambda progress: None,
) -> Learned:
    """Learns a prefix by Anonymization Prompt Learning (METHODS.md 1): nothing but its vectors is trained.

    The same model, arguments and machine give the same prefix.

    Args:
        identities: the people to learn from, at least one.
        prompts: general prompts that the prefix is to leave alone, at least one.
        report: called after every batch of pictures and every step; may raise to stop the run.

    Raises:
        TrainingError: nobody to learn from, or the loss is not finite. Whatever `report` raises comes through.
    """
    if not identities or not prompts:
        raise TrainingError("There is nobody to learn from: add at least one identity and one general prompt.")
    started = time.monotonic()
    choices = seeded(settings.seed, "choices")
    pairs = identity_pairs(identities, settings.portraits_per_identity, choices) + general_pairs(prompts)

    def report_pictures(drawn: int) -> None:
        report(Progress(drawn, len(pairs), 0, settings.steps))

    pictures = draw_pictures(denoiser, pairs, settings.seed, DRAWN_AT_ONCE * settings.batch_size, report_pictures)
    drawn = time.monotonic()
    history: list[Losses] = []
    with denoiser.gradients(settings.batch_size):
        vectors = start_vectors(denoiser, settings)
        optimizer = torch.optim.Adam(vectors.values(), lr=settings.learning_rate)
        pool = TargetPool(denoiser, pictures, settings.noisings_per_picture, settings.seed)
        for step, slots in zip(range(settings.steps), draw_slots(pool, settings.batch_size, choices), strict=False):
            for group in optimizer.param_groups:
                group["lr"] = settings.learning_rate * rate_factor(step, settings.steps, settings.warmup)
            history.append(make_step(denoiser, vectors, optimizer, pool.batch(slots), step))
            report(Progress(len(pairs), len(pairs), step + 1, settings.steps, history[-1]))
    record = PrefixRecord(
        family=denoiser.family,
        fingerprint=denoiser.fingerprint,
        settings=dataclasses.asdict(settings),
        identities=len(identities),
        steps=settings.steps,
        date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        scores={},
    )
    prefix = Prefix({key: vector.detach() for key, vector in vectors.items()}, record)
    return Learned(prefix, tuple(history), drawn - started, time.monotonic() - drawn)


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


def draw_slots(pool: TargetPool, batch_size: int, generator: torch.Generator) -> Iterator[list[int]]:
    """Endless batches of slots, half of them name somebody; an odd one out is of either kind with equal chance."""
    named, general = (_shuffled_forever(pool.slots(kind), generator) for kind in (True, False))
    while True:
        odd = int(torch.randint(2, (), generator=generator)) if batch_size % 2 else 0
        names = batch_size // 2 + odd
        yield [next(named) for _ in range(names)] + [next(general) for _ in range(batch_size - names)]


def make_step(
    denoiser: Denoiser, vectors: Vectors, optimizer: torch.optim.Optimizer, batch: Batch, step: int
) -> Losses:
    """One step of the optimizer on one batch. Raises `TrainingError` if the loss is not finite."""
    optimizer.zero_grad(set_to_none=True)
    student = denoiser.predict(batch.noised, batch.t, denoiser.encode(batch.prompts, vectors))
    losses = distances(student, batch.predictions.to(student.device))
    losses.mean().backward()
    by_picture = losses.detach().cpu()
    if not bool(torch.isfinite(by_picture).all()):
        raise TrainingError(
            f"The loss is no longer a finite number at step {step + 1}: lower the learning rate, or run the model in"
            " a wider number format (start ComfyUI with --force-fp32)."
        )
    optimizer.step()
    return Losses(float(by_picture[batch.names_somebody].mean()), float(by_picture[~batch.names_somebody].mean()))


def _shuffled_forever(slots: Tensor, generator: torch.Generator) -> Iterator[int]:
    while True:
        yield from slots[torch.randperm(len(slots), generator=generator)].tolist()
