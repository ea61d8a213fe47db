"""Makes the parameters that training starts from."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from ..engines.denoiser import Denoiser
from ..engines.micro_batches import MicroBatches
from ..engines.vectors import new_vectors, with_networks
from ..runs.seeds import generator as seeded
from .data.pairs import GatePrompts
from .data.prompts import GENERAL_PROMPTS
from .settings import TrainingSettings

SOME_PROMPTS = GatePrompts(("a portrait of Ada Example",), GENERAL_PROMPTS[:4])
"""For vectors that nobody learns from."""


def start_vectors(
    denoiser: Denoiser,
    settings: TrainingSettings,
    prompts: GatePrompts = SOME_PROMPTS,
    micro_batches: MicroBatches | None = None,
    report: Callable[[int], None] = lambda read: None,
) -> dict[str, Tensor]:
    """The parameters that training starts from; inside `Denoiser.gradients`.

    Vectors `{encoder key: [m, d]}` from words, repeated as needed, or at random; and for a conditional prefix what
    makes others of them.

    Args:
        prompts, micro_batches, report: see `with_networks`.
    """
    vectors = new_vectors(denoiser, settings.init, settings.vectors, seeded(settings.seed, "vectors"))
    if not settings.conditional:
        return vectors
    choices = seeded(settings.seed, "networks")
    return with_networks(denoiser, vectors, prompts.named, prompts.others, choices, micro_batches, report)
