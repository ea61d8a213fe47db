"""Defines how an engine draws and computes."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..prefix.errors import AnonymizationError, TrainingError
from ..prefix.face_region import CERTAINTY, FULL, MARGIN, SOFTNESS
from ..runs.settings import require_in_range, setting

PRECISIONS = {"model": None, "bf16": torch.bfloat16, "fp16": torch.float16}
CHECKPOINTING = ("auto", "on", "off")

VOCABULARY_SAMPLE = 1024
"""Words, from everywhere in an encoder's table, that show how its embeddings are spread."""

READ_AT_ONCE = 32
"""Chunks that a text encoder is given together where nothing but what meta-networks read is wanted of it."""

TOKENIZED_KEPT = 8
"""Texts that are remembered as tokens: with each prompt the host is asked anew for stand-ins that show its template.

More would be quicker by little, and lists that outlive a step lie scattered in memory, in the way of larger things.
"""


@dataclass(frozen=True)
class Drawing:
    """How the host's sampler draws pictures; sampler and scheduler serve all families."""

    steps: int = setting(20, "Sampler steps for each picture.", least=1, offered=(1, 1000))
    cfg: float = setting(
        7.0,
        "Guidance, as in KSampler.",
        offered=(0.0, 100.0),
        step=0.1,
    )
    sampler: str = setting("euler", "As in KSampler. In ComfyUI 'ddim' is the same as 'euler'.", advanced=True)
    scheduler: str = setting("simple", "As in KSampler.", advanced=True)

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

    precision: str = setting(
        "model",
        "Number format the model computes in while learning. 'model' is what ComfyUI runs it in. The prefix itself is"
        " always learned in float32.",
        choices=tuple(PRECISIONS),
        advanced=True,
    )
    checkpointing: str = setting(
        "auto",
        "'on' needs much less memory and a third more time; 'auto' does so only if there is no room otherwise.",
        choices=CHECKPOINTING,
        advanced=True,
    )

    def __post_init__(self) -> None:
        require_in_range(self, TrainingError)


@dataclass(frozen=True)
class RegionSettings:
    """How much of a picture counts as face where a prefix changes faces alone; see `prefix.face_region`."""

    certainty: float = setting(
        CERTAINTY,
        "How sure to be that faces are covered: the share of faces to be covered as a whole, judged by pictures that"
        " were kept apart while learning. Higher protects more, lower leaves more of the scene. 1: the whole picture,"
        " exactly as with the whole prefix.",
        least=0.5,
        most=1,
        step=0.01,
    )
    margin: float = setting(
        MARGIN,
        "By how much the covered place grows on all sides, as a share of the picture's shorter side.",
        least=0,
        most=0.5,
        step=0.01,
    )
    softness: float = setting(
        SOFTNESS,
        "Over how much it then fades out, as a share of the picture's shorter side. Faces stay covered in full.",
        least=0,
        most=0.5,
        step=0.01,
    )

    def __post_init__(self) -> None:
        require_in_range(self, AnonymizationError)

    @property
    def is_full(self) -> bool:
        """Whether the whole picture is covered."""
        return self.certainty >= FULL

    def no_less_than(self, least: RegionSettings) -> RegionSettings:
        """These settings, each raised to that of others where it would cover less."""
        return RegionSettings(**{name: max(value, getattr(least, name)) for name, value in vars(self).items()})


AS_USUAL = Drawing()
AS_THE_HOST = Computing()
USUAL_REGION = RegionSettings()
