"""Defines the trainer's settings and their defaults."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from fractions import Fraction

from ..prefix.errors import PrefixValueError, TrainingError
from ..prefix.files.plain import require_plain
from ..runs.settings import LARGEST_SEED, described, require_in_range, setting
from .presets import BALANCED, NONE_OF_ITS_OWN, PRESETS, UNREAD_STEPS, values_of

LONGEST_INIT = 10_000
"""Characters of the words to start from: more than any text encoder reads."""


@dataclass(frozen=True)
class TrainingSettings:
    """How a prefix is learned. All values survive JSON, as they go into the prefix's record.

    What each setting does is in its help. One that is `automatic` becomes what the preset says as soon as a value of
    this class is made, so that none holds such a one: `TrainingSettings()` is the preset *balanced*, and what
    `dataclasses.replace` makes of one keeps what it does not name. `held_out` is of
    `validation`, `vary_names` of `data.variations`, `text_steps` of `warm_start` and `overshoot` of `objective`. One
    half of a batch names people, the other does not. Vectors that start from no words are spread like the encoder's
    token embeddings. After `warmup` the rate falls along a cosine.
    docs/METHODS.md 1.3 has a `general_weight` of 1. The learning rate is Adam's peak rate for embeddings spread like
    those of SD1's CLIP, see `engines.vectors.scale_free_adam`.

    Raises:
        TrainingError: a value is out of range.
    """

    preset: str = setting(
        BALANCED,
        "How thoroughly to learn. It sets how many pictures are drawn, how many steps are made and how much is"
        " validated, wherever the advanced settings are automatic.",
        choices=tuple(PRESETS),
    )
    vectors: int = setting(
        16,
        "Length of the prefix. Each vector takes the place of one token of the prompt. With 'conditional' they begin at"
        " as many tokens of a description: of longer ones the end must be learned.",
        least=1,
        offered=(1, 64),
        advanced=True,
    )
    conditional: bool = setting(
        True,
        "The vectors are made anew for each prompt, by a small network that is learned: people whom it never met are"
        " hidden far better, and other prompts change less. It learns longer, and cannot be saved as an embedding.",
        advanced=True,
    )
    steps: int = setting(
        0,
        "More steps take longer and remove more.",
        least=1,
        offered=(1, 1_000_000),
        automatic=0,
        advanced=True,
    )
    batch_size: int = setting(
        8,
        "Pictures a step. Lower it if memory runs out.",
        least=1,
        offered=(1, 256),
        advanced=True,
    )
    learning_rate: float = setting(
        1.4e-3,
        "How far the prefix moves a step at most. Lower it if the losses jump.",
        least=0,
        above=True,
        offered=(1e-6, 1.0),
        step=1e-6,
        rounded=True,
        advanced=True,
    )
    seed: int = setting(0, "The same seed and settings give the same prefix.", offered=(0, LARGEST_SEED))
    init: str = setting(
        "",
        "Words that the prefix starts from. Empty: with 'conditional' from the descriptions in the list, if the text"
        " encoder knows what such people look like; else at random.",
        advanced=True,
    )
    portraits_per_identity: int = setting(
        0,
        "Portraits that the model draws of each person to learn from.",
        least=1,
        offered=(1, 64),
        automatic=0,
        advanced=True,
    )
    noisings_per_picture: int = setting(
        0,
        "Noises in which each picture is seen. What the model makes of each is computed once: fewer are faster, more"
        " are more varied.",
        least=1,
        offered=(1, 1000),
        automatic=0,
        advanced=True,
    )
    warmup: float = setting(0.02, "Share of the steps over which the learning rate rises.", least=0, most=1)
    held_out: float = setting(
        float(NONE_OF_ITS_OWN),
        "Share of the people, and of the general prompts, that the prefix does not learn from and is examined on, 3 to"
        " 12 of each. With fewer than 8 people none is held out.",
        least=0,
        most=0.5,
        step=0.005,
        rounded=True,
        automatic=NONE_OF_ITS_OWN,
        advanced=True,
    )
    general_weight: float = setting(
        0.0, "Weight of prompts that name nobody in the loss.", least=0, above=True, automatic=0
    )
    vary_names: bool = setting(
        False,
        "Some prompts name people in other ways (capitals, misspelt, surname alone, emphasis, late in a long prompt,"
        " …), so that the prefix is hard to get around.",
        advanced=True,
    )
    text_steps: int = setting(
        NONE_OF_ITS_OWN,
        "Steps that the prefix learns from the text encoder alone, before the model runs. They are quick.",
        least=0,
        offered=(0, 100_000),
        automatic=NONE_OF_ITS_OWN,
        advanced=True,
    )
    overshoot: float = setting(
        float(NONE_OF_ITS_OWN),
        "How far past 'no identity' to aim for the people learned on, so that people never learned on get there too. 0"
        " aims at it, and so does a prefix that does not read the words of names.",
        least=0,
        most=1,
        step=0.05,
        automatic=NONE_OF_ITS_OWN,
        advanced=True,
    )
    harden: float = setting(
        float(NONE_OF_ITS_OWN),
        "Share of names that it learns behind an embedding made against it. Without, embeddings and plain words beside"
        " a name (by a lake) bring faces back. 0: none.",
        least=0,
        most=1,
        step=0.05,
        automatic=NONE_OF_ITS_OWN,
        advanced=True,
    )
    face_region: bool = setting(
        False,
        "Learns where faces are as well, once the prefix is done, for Anonymize Face Region: it then changes faces and"
        " nothing else. Takes about a twentieth of the time.",
        advanced=True,
    )
    snapshot_every: int = setting(20, "Steps after which the run is saved.", least=1)
    people_drawn: int = setting(
        0,
        "People that the model draws portraits of, at most. From the others it learns in text_steps only, and without"
        " these not at all; with 'conditional' they still teach what a name is, and where to begin.",
        least=1,
        offered=(1, 1_000_000),
        automatic=0,
        advanced=True,
    )
    general_drawn: int = setting(
        0,
        "General prompts that the model draws a picture for, at most; your own by turns with built-in ones. From the"
        " others it learns in text_steps only, and without these not at all; with 'conditional' they still teach what"
        " is no name.",
        least=1,
        offered=(1, 100_000),
        automatic=0,
        advanced=True,
    )
    patience: int = setting(
        NONE_OF_ITS_OWN,
        "Learning ends early when so many validations in a row bring nothing better. 0: it makes all its steps.",
        least=0,
        offered=(0, 1000),
        automatic=NONE_OF_ITS_OWN,
        advanced=True,
    )
    drawing_share: float = setting(
        0.0,
        "Share of the usual sampler steps that a picture to learn from takes, where its steps are not set.",
        least=0.05,
        most=1,
        automatic=0,
    )

    streams_warm_up: bool = True
    """Whether text encoders of T5, BERT and LLM type teach before the denoiser does. For measurements; no widget."""

    shards: int = 4
    """Parts in which pictures are drawn while learning goes on, see `data.shards`; 1: all before the first step. For
    measurements; no widget."""
    unread_steps: int = 0
    """Steps where words of names are left unread and vectors begin at descriptions, `steps` at most; 0: what the preset
    has, or `steps` where these are set. For measurements; no widget."""
    text_only: bool = False
    """Whether to learn from the text encoder alone, without a step in which the denoiser is asked. For measurements."""

    @property
    def named_share(self) -> Fraction:
        """Share of a batch's prompts that name somebody."""
        return Fraction(7, 8) if self.conditional else Fraction(1, 2)

    @property
    def denoiser_steps(self) -> int:
        """Steps in which the denoiser is asked."""
        return 0 if self.text_only else self.steps

    def where_unread(self, at_descriptions: bool) -> TrainingSettings:
        """These settings where words of names are left unread: past the description lies nothing to aim for then.

        Args:
            at_descriptions: whether vectors begin at these, and so near where they are to end: fewer steps do then.
        """
        return dataclasses.replace(self, steps=self.unread_steps if at_descriptions else self.steps, overshoot=0.0)

    def __post_init__(self) -> None:
        chosen = self.steps
        for name, value in values_of(self.preset, self.conditional).items():
            if getattr(self, name) == described(TrainingSettings, name).automatic:
                object.__setattr__(self, name, value)
        fewer = UNREAD_STEPS.get(self.preset, self.steps) if self.conditional else self.steps
        unread = self.unread_steps or chosen or fewer
        object.__setattr__(self, "unread_steps", min(unread, self.steps))
        require_in_range(self, TrainingError)
        if self.unread_steps < 1:
            raise TrainingError("At least one step is made where words of names are left unread.")
        if self.shards < 1:
            raise TrainingError("Pictures are drawn in at least one part.")
        if len(self.init) > LONGEST_INIT:
            raise TrainingError(f"The words to start from are longer than {LONGEST_INIT} characters: shorten them.")
        try:  # Else a run could end in a prefix that cannot be saved.
            require_plain(dataclasses.asdict(self), "One of them")
        except PrefixValueError as error:
            raise TrainingError(f"The settings cannot be kept ({str(error).rstrip('.')}): correct them.") from error
