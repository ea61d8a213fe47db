"""Makes the parameters that training starts from."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from torch import Tensor

from ..engines.denoiser import Denoiser
from ..engines.micro_batches import MicroBatches
from ..engines.starting.prompts import FirstPrompts
from ..engines.vectors import new_vectors, with_networks
from ..runs.seeds import generator as seeded
from .data.prompts import GENERAL_PROMPTS
from .settings import TrainingSettings

SOME_PROMPTS = FirstPrompts(("a portrait of Ada Example",), GENERAL_PROMPTS[:4])
"""For vectors that nobody learns from."""


def start_vectors(
    denoiser: Denoiser,
    settings: TrainingSettings,
    prompts: FirstPrompts = SOME_PROMPTS,
    micro_batches: MicroBatches | None = None,
    report: Callable[[int], None] = lambda read: None,
    began: Callable[[bool], None] = lambda at_descriptions: None,
) -> dict[str, Tensor]:
    """The parameters that training starts from; inside `Denoiser.gradients`.

    Vectors `{encoder key: [m, d]}` from words, repeated as needed, or at random; and for a conditional prefix what
    makes others of them, at first near those words, else at the description of whoever is named or at random.

    Args:
        prompts, micro_batches, report, began: see `with_networks`.
    """
    vectors = new_vectors(denoiser, settings.init, settings.vectors, seeded(settings.seed, "vectors"))
    if not settings.conditional:
        return vectors
    choices = seeded(settings.seed, "networks")
    if settings.init.strip():
        prompts = dataclasses.replace(prompts, described=(), whom=(), twins=())
    return with_networks(denoiser, vectors, prompts, choices, micro_batches, report, began)
