"""Defines the trainer's settings and their defaults."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from ..prefix.errors import PrefixValueError, TrainingError
from ..prefix.files.plain import require_plain

LONGEST_INIT = 10_000
"""Characters of the words to start from: more than any text encoder reads."""

COUNTS = ("vectors", "steps", "batch_size", "portraits_per_identity", "noisings_per_picture", "snapshot_every")


@dataclass(frozen=True)
class TrainingSettings:
    """How a prefix is learned. All values survive JSON, as they go into the prefix's record.

    Attributes:
        vectors: number of vectors m of the prefix (docs/METHODS.md 1.1).
        steps: optimizer steps.
        batch_size: pictures a step; one half name people, the other half do not.
        learning_rate: peak rate of Adam for embeddings spread like those of SD1's CLIP; others have theirs multiplied
            by their spread, see `state.scale_free_adam`.
        seed: everything random follows from it.
        init: words whose token embeddings the vectors start from; none: random vectors that are spread like the
            encoder's token embeddings.
        portraits_per_identity: portraits drawn of each identity.
        noisings_per_picture: how often each picture is noised; the neutral prediction for each is computed once, when
            it is first needed, and used again after that.
        warmup: share of the steps over which the rate rises; after that it falls along a cosine.
        held_out: share of the people, and of the general prompts, that the prefix is examined on and does not learn
            from; see `validation`.
        general_weight: of prompts that name nobody in the loss, against those that do (docs/METHODS.md 1.3 has 1).
        vary_names: whether some prompts name people in other ways, so that the prefix is hard to get around; see
            `variations`.
        text_steps: steps that the vectors are moved in the text encoder's space first; see `warm_start`.
        overshoot: how far past the neutral prediction the goal lies, as a share of the identity signal; see
            `objective.beyond`.
        snapshot_every: steps after which the run is saved, so that it can go on after a crash.

    Raises:
        TrainingError: a value is out of range.
    """

    vectors: int = 10
    steps: int = 1000
    batch_size: int = 8
    learning_rate: float = 1.4e-3
    seed: int = 0
    init: str = ""
    portraits_per_identity: int = 4
    noisings_per_picture: int = 8
    warmup: float = 0.02
    held_out: float = 0.125
    general_weight: float = 4.0
    vary_names: bool = False
    text_steps: int = 200
    overshoot: float = 0.15
    snapshot_every: int = 20

    def __post_init__(self) -> None:
        for name in COUNTS:
            if getattr(self, name) < 1:
                raise TrainingError(f"The setting '{name}' is {getattr(self, name)}: set it to 1 or more.")
        if not 0 <= self.held_out <= 0.5:
            raise TrainingError(f"The share of people held out is {self.held_out}: set it between 0 and 0.5.")
        if not 0 < self.general_weight < float("inf"):
            raise TrainingError(f"The weight of general prompts is {self.general_weight}: set it above 0, such as 4.")
        if self.text_steps < 0:
            raise TrainingError(f"The setting 'text_steps' is {self.text_steps}: set it to 0 or more.")
        if not 0 <= self.overshoot <= 1:
            raise TrainingError(f"The overshoot is {self.overshoot}: set it between 0 and 1.")
        if not 0 < self.learning_rate < float("inf"):
            raise TrainingError(f"The learning rate is {self.learning_rate}: set it above 0, such as 0.001.")
        if len(self.init) > LONGEST_INIT:
            raise TrainingError(f"The words to start from are longer than {LONGEST_INIT} characters: shorten them.")
        try:  # Else a run could end in a prefix that cannot be saved.
            require_plain(dataclasses.asdict(self), "One of them")
        except PrefixValueError as error:
            raise TrainingError(f"The settings cannot be kept ({str(error).rstrip('.')}): correct them.") from error
