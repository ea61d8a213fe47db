"""Defines the settings of an evaluation: what is asked of a model."""

from __future__ import annotations

from dataclasses import dataclass

from ..prefix.errors import MeasurementError
from ..runs.settings import LARGEST_SEED, require_in_range, setting

PROTOCOL_VERSION = 2
"""Raised when the same settings come to mean other pictures or other figures."""

NAME = "{name}"

CLIP, INCEPTION, BOTH = "CLIP score", "FID and KID", "CLIP score, FID and KID"
QUALITIES = (CLIP, INCEPTION, BOTH)
"""What can be measured beside, see `quality`."""

NO_QUALITY = "(none)"

CLIP_MODEL = "openai/clip-vit-large-patch14"
"""For the CLIP score: what torchmetrics takes by default."""

CAPTIONS = (
    "a man riding a wave on top of a surfboard",
    "two people walk along a beach with a dog",
    "a woman slices vegetables in a small kitchen",
    "a group of children plays football on a field",
    "a close-up portrait of an elderly woman in a blue scarf",
    "a waiter carries plates through a busy restaurant",
    "a person on skis goes down a snowy slope",
    "a cat sits on a keyboard next to a cup",
    "a brown dog catches a frisbee in the park",
    "three giraffes stand beside a tree",
    "a red double-decker bus drives down a city street",
    "a train waits at a station in the rain",
    "a plate with a sandwich and a bowl of soup",
    "a bathroom with a white sink and a round mirror",
    "a stack of suitcases beside an open door",
    "a clock tower against a cloudy sky",
)
"""Captions in the manner of COCO's, people and all, none of them among the prompts that the trainer learns from."""


@dataclass(frozen=True)
class EvaluationSettings:
    """What is drawn and asked; docs/METHODS.md 1.6 are the defaults.

    Attributes:
        prompts: what is drawn of each person; `{name}` stands for the name.
        general_prompts: prompts that name nobody, for preservation, CLIP score, FID and KID; none leaves those out.

    What the numbers do is in their help. A batch's size does not change the pictures, whatever the sampler (see
    `Denoiser.sample`); strangers are distractors, for
    recognizers that bring none.

    Raises:
        MeasurementError: a prompt names nobody, or a number is out of range.
    """

    prompts: tuple[str, ...] = (f"A close-up portrait of {NAME}",)
    general_prompts: tuple[str, ...] = CAPTIONS
    images_per_name: int = setting(4, "Pictures for each person and prompt.", least=1, offered=(1, 1000))
    images_per_prompt: int = setting(
        4, "Pictures for each general prompt. 0 leaves these prompts out.", least=1, offered=(0, 1000)
    )
    strangers: int = setting(
        0,
        "Strangers of the same described looks that the plain model draws for each person, so that being found first is"
        " harder. 100 is the strict figure. The demo reader brings its own.",
        least=0,
        offered=(0, 1000),
        advanced=True,
    )
    seed: int = setting(
        0, "All noises follow from it. The same seed and settings give the same figures.", offered=(0, LARGEST_SEED)
    )
    batch_size: int = setting(
        4, "Pictures drawn at once. Halved by itself if memory runs out.", least=1, offered=(1, 256)
    )

    def __post_init__(self) -> None:
        if not self.prompts:
            raise MeasurementError(f"There is nothing to draw: write at least one prompt, with {NAME} for the name.")
        for prompt in self.prompts:
            if NAME not in prompt:
                raise MeasurementError(f"The prompt '{prompt}' names nobody: write {NAME} where the name belongs.")
        require_in_range(self, MeasurementError)


@dataclass(frozen=True)
class QualitySettings:
    """What is measured of pictures beside people; no figure but these follows from it."""

    quality: str = setting(
        NO_QUALITY,
        "CLIP score, and FID and KID against the plain model's pictures, of the general prompts. They need the packages"
        " torchmetrics and torch-fidelity, and weights.",
        choices=(NO_QUALITY, *QUALITIES),
        advanced=True,
    )
    clip_model: str = setting(
        CLIP_MODEL, "For the CLIP score: a name on the Hugging Face hub, or a folder.", advanced=True
    )

    def __post_init__(self) -> None:
        require_in_range(self, MeasurementError)
