"""Defines the trainer's settings and their defaults."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from ..prefix.errors import PrefixValueError, TrainingError
from ..prefix.files.plain import require_plain
from ..runs.settings import LARGEST_SEED, require_in_range, setting

LONGEST_INIT = 10_000
"""Characters of the words to start from: more than any text encoder reads."""


@dataclass(frozen=True)
class TrainingSettings:
    """How a prefix is learned. All values survive JSON, as they go into the prefix's record.

    What each setting does is in its help. `held_out` is of `validation`, `vary_names` of `data.variations`,
    `text_steps` of `warm_start` and `overshoot` of `objective`. One half of a batch names people, the other does not.
    Vectors that start from no words are spread like the encoder's token embeddings. After `warmup` the rate falls
    along a cosine.
    docs/METHODS.md 1.3 has a `general_weight` of 1. The learning rate is Adam's peak rate for embeddings spread like
    those of SD1's CLIP, see `state.scale_free_adam`.

    Raises:
        TrainingError: a value is out of range.
    """

    vectors: int = setting(
        10,
        "Length of the prefix. Each vector takes the place of one token of the prompt.",
        least=1,
        offered=(1, 64),
    )
    steps: int = setting(1000, "More steps take longer and remove more.", least=1, offered=(1, 1_000_000))
    batch_size: int = setting(
        8,
        "Pictures a step; half of them name people. Lower it if memory runs out.",
        least=1,
        offered=(1, 256),
    )
    learning_rate: float = setting(
        1.4e-3,
        "How far the prefix moves a step at most. Lower it if the losses jump.",
        least=0,
        above=True,
        offered=(1e-6, 1.0),
        step=1e-6,
        rounded=True,
    )
    seed: int = setting(0, "The same seed and settings give the same prefix.", offered=(0, LARGEST_SEED))
    init: str = setting("", "Words that the prefix starts from. Empty: it starts at random.", advanced=True)
    portraits_per_identity: int = setting(
        4, "Portraits that the model draws of each person to learn from.", least=1, offered=(1, 64), advanced=True
    )
    noisings_per_picture: int = setting(
        8,
        "Noises in which each picture is seen. What the model makes of each is computed once: fewer are faster, more"
        " are more varied.",
        least=1,
        offered=(1, 1000),
        advanced=True,
    )
    warmup: float = setting(0.02, "Share of the steps over which the learning rate rises.", least=0, most=1)
    held_out: float = setting(
        0.125,
        "Share of the people, and of the general prompts, that the prefix does not learn from and is examined on, 3 to"
        " 12 of each. With fewer than 8 people none is held out.",
        least=0,
        most=0.5,
        step=0.005,
        rounded=True,
        advanced=True,
    )
    general_weight: float = setting(4.0, "Weight of prompts that name nobody in the loss.", least=0, above=True)
    vary_names: bool = setting(
        False,
        "Some prompts name people in other ways (capitals, misspelt, surname alone, emphasis, late in a long prompt,"
        " …), so that the prefix is hard to get around.",
        advanced=True,
    )
    text_steps: int = setting(
        200,
        "Steps that the prefix learns from the text encoder alone, before the model runs. They are quick. SD1, SD2 and"
        " SDXL only.",
        least=0,
        offered=(0, 100_000),
        advanced=True,
    )
    overshoot: float = setting(
        0.15,
        "How far past 'no identity' to aim for the people learned on, so that people never learned on get there too. 0"
        " aims at it.",
        least=0,
        most=1,
        step=0.05,
        advanced=True,
    )
    snapshot_every: int = setting(20, "Steps after which the run is saved.", least=1)

    def __post_init__(self) -> None:
        require_in_range(self, TrainingError)
        if len(self.init) > LONGEST_INIT:
            raise TrainingError(f"The words to start from are longer than {LONGEST_INIT} characters: shorten them.")
        try:  # Else a run could end in a prefix that cannot be saved.
            require_plain(dataclasses.asdict(self), "One of them")
        except PrefixValueError as error:
            raise TrainingError(f"The settings cannot be kept ({str(error).rstrip('.')}): correct them.") from error
