"""Defines how an engine draws and computes."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..prefix.errors import TrainingError

PRECISIONS = {"model": None, "bf16": torch.bfloat16, "fp16": torch.float16}
CHECKPOINTING = ("auto", "on", "off")

VOCABULARY_SAMPLE = 1024
"""Words, from everywhere in an encoder's table, that show how its embeddings are spread."""

TOKENIZED_KEPT = 8
"""Texts that are remembered as tokens: with each prompt the host is asked anew for stand-ins that show its template.

More would be quicker by little, and lists that outlive a step lie scattered in memory, in the way of larger things.
"""


@dataclass(frozen=True)
class Drawing:
    """How the host's sampler draws pictures; sampler and scheduler serve all families."""

    steps: int = 20
    cfg: float = 7.0
    sampler: str = "euler"
    scheduler: str = "simple"

    @property
    def unconditional_share(self) -> float:
        """The negative prompt's share of the squared error of a guided prediction, if both predictions err alike.

        The prediction is `g · conditional − (g − 1) · unconditional` (Ho and Salimans, arXiv 2207.12598).
        """
        conditional, unconditional = self.cfg**2, (self.cfg - 1) ** 2
        return unconditional / (conditional + unconditional)

    @property
    def evaluations(self) -> int:
        """How often the denoiser is asked for one picture: twice a step where guidance compares two prompts."""
        return self.steps * (1 if self.cfg == 1 else 2)


@dataclass(frozen=True)
class Computing:
    """How the denoiser computes while a prefix is learned; the vectors and the loss are float32 in any case.

    Attributes:
        precision: "model": as the host runs it; "bf16" or "fp16": in that number format wherever autocasting allows.
        checkpointing: "on": activations of the denoiser's blocks are computed twice instead of kept; "off": kept;
            "auto": kept if the device has room for them and the model as a whole.
    """

    precision: str = "model"
    checkpointing: str = "auto"

    def __post_init__(self) -> None:
        for name, choices in (("precision", PRECISIONS), ("checkpointing", CHECKPOINTING)):
            if getattr(self, name) not in choices:
                raise TrainingError(f"There is no {name} '{getattr(self, name)}': choose one of {', '.join(choices)}.")


AS_USUAL = Drawing()
AS_THE_HOST = Computing()
