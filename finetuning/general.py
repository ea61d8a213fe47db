"""Mixes general captions in against forgetting: pictures that the model itself draws of prompts that are not learned.

What a model is not reminded of while it learns something else, it forgets; its own pictures remind it of what it was
(prior preservation, arXiv 2208.12242, section 3.3).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from ..engines.denoiser import Denoiser
from ..engines.micro_batches import MicroBatches
from ..runs.run_folder import RunFolder
from ..runs.seeds import derived_seed
from .training_set import TrainingSet

AT_ONCE = 8
"""Pictures that are drawn together."""

DRAWN = "drawn"
"""What a run's folder has the numbers of drawn pictures under."""


def general_set(
    denoiser: Denoiser,
    prompts: Sequence[str],
    count: int,
    seed: int = 0,
    report: Callable[[int, int], None] = lambda done, of: None,
    check: Callable[[], None] = lambda: None,
    folder: RunFolder | None = None,
) -> TrainingSet:
    """Pictures that the denoiser draws of prompts, in turn, with these as captions.

    Args:
        count: of pictures, at least one.
        report: called with how many are drawn, and how many there are to draw.
        folder: of the run that they are drawn for, which a run that was broken off finds them in; None to keep nothing.

    Raises:
        TrainingError: there are no prompts, or none to draw.
    """
    captions = [prompts[number % len(prompts)] for number in range(count)] if prompts else []
    seeds = [derived_seed(seed, "general picture", number) % 2**32 for number in range(count)]
    folder = folder or RunFolder(None, "")
    known = folder.load(DRAWN)
    drawn = folder.tensor_store(
        "pictures", count, denoiser.latent_shape, known[1][DRAWN] if known else (), precious=True
    )

    def draw(some: Sequence[int]) -> None:
        latents = denoiser.sample([captions[number] for number in some], [seeds[number] for number in some])
        for number, latent in zip(some, latents, strict=True):
            drawn.put(number, latent)
        folder.save(DRAWN, {}, {DRAWN: drawn.on_disk()})
        report(some[-1] + 1, count)

    missing = [number for number in range(len(captions)) if number not in drawn]
    MicroBatches(denoiser, AT_ONCE, check).work(draw, missing)
    if captions and not missing:
        report(count, count)
    latents = [drawn[number] for number in range(len(captions))]
    return TrainingSet(torch.stack(latents) if latents else torch.zeros(0), tuple(captions))


def mixed(learned: TrainingSet, general: TrainingSet) -> TrainingSet:
    """Both; every picture comes equally often."""
    return TrainingSet(torch.cat([learned.latents, general.latents]), learned.captions + general.captions)
