"""Defines the settings of protecting photographs and of attacking them, and their defaults."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..finetuning.settings import FinetuningSettings
from ..prefix.errors import PhotoError
from ..runs.settings import LARGEST_SEED, require_in_range, setting

ENCODER, PROMPTS, BOTH, PAPER, ONE_PROMPT, PROMPT_MIX, RANDOM = (
    "encoder",
    "prompts",
    "encoder + prompts",
    "paper",
    "one prompt",
    "prompt mix",
    "random",
)
METHODS = (ENCODER, BOTH, PROMPTS, PAPER, ONE_PROMPT, PROMPT_MIX, RANDOM)

NOTHING, RESAVING = "nothing", "re-saving and resizing"
WITHSTAND = (NOTHING, RESAVING)

NO_PURIFICATION, JPEG, HALF, BLUR, ROUND_TRIP, NOISE = (
    "none",
    "JPEG 75",
    "half size and back",
    "blur",
    "VAE round trip",
    "noise and upscaling",
)
PURIFICATIONS = (NO_PURIFICATION, JPEG, HALF, BLUR, ROUND_TRIP, NOISE)

CAPTION = "a photo of sks person"
"""What the released code of personalization and of its protections says of a photo."""

UNSEEN_PROMPTS = ("a close-up portrait of sks person in a garden", "sks person at the beach", "a face of sks person")
"""What an attacker draws, in other words than photos are protected and learned with."""


@dataclass(frozen=True)
class ProtectionSettings:
    """How photographs are protected (docs/METHODS.md 6); see each field's help.

    Raises:
        PhotoError: a value is out of range.
    """

    budget: int = setting(
        8,
        "By how many of the 255 levels of brightness a colour may change at most. 4 is hardly seen, and hardly"
        " protects; 16 is seen.",
        least=1,
        most=32,
    )
    method: str = setting(
        ENCODER,
        "What the change works against. 'encoder' makes the VAE see something else, 'prompts' makes the photo hard to"
        " learn whatever it is called (PAP), 'paper' is PAP as released, 'one prompt', 'prompt mix' and 'random' are"
        " for comparison.",
        choices=METHODS,
    )
    steps: int = setting(100, "More steps protect a little better.", least=1, offered=(1, 2000))
    withstand: str = setting(
        NOTHING,
        "'re-saving and resizing' looks for a change that also works after JPEG, blur and other sizes; against the"
        " plain file it is a little weaker.",
        choices=WITHSTAND,
    )
    prompt: str = setting(
        CAPTION, "What an attacker may call the photo; methods with prompts start from it.", advanced=True
    )
    target_prompt: str = setting(
        "mountains",
        "What to pull towards, drawn by the model, where no picture is connected. On the demo model another face"
        " protects a little more, and the photo looks less like the person.",
        advanced=True,
    )
    seed: int = setting(0, "The same seed and settings give the same files.", offered=(0, LARGEST_SEED))
    snapshot_every: int = setting(20, "Steps after which the work is saved.", least=1)

    def __post_init__(self) -> None:
        require_in_range(self, PhotoError)


@dataclass(frozen=True)
class AttackSettings:
    """What an attacker does.

    Attributes:
        finetuning: how the copy of the model is personalized.
        caption: what the attacker calls the photos.
        prompts: what is drawn afterwards.

    Raises:
        PhotoError: a value is out of range.
    """

    finetuning: FinetuningSettings = field(default_factory=FinetuningSettings)
    purification: str = setting(
        NO_PURIFICATION, "What the attacker does to the photos first, to take a protection off.", choices=PURIFICATIONS
    )
    caption: str = CAPTION
    prompts: tuple[str, ...] = UNSEEN_PROMPTS
    images_per_prompt: int = setting(4, "Pictures that are drawn of each prompt.", least=1, offered=(1, 64))

    def __post_init__(self) -> None:
        require_in_range(self, PhotoError)
