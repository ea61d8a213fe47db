"""Defines the settings of fine-tuning and their defaults."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..engines.automatic import AUTOMATIC
from ..engines.denoiser import FULL, LORA, Denoiser
from ..prefix.errors import TrainingError
from ..runs.settings import LARGEST_SEED, require_in_range, setting

EMBEDDING = "embedding"
"""Nothing but vectors that stand before the prompt is learned, by the machinery of a prefix (arXiv 2208.01618)."""

KINDS = (FULL, LORA, EMBEDDING)

SMALL = 128
"""Pixels of the pictures of a small model, such as the demo's; it learns with larger steps, and fewer of them."""

RATES = {FULL: (2e-4, 5e-6), LORA: (2e-3, 1e-4), EMBEDDING: (2e-2, 5e-3)}
"""Usual learning rates, of small models and of others."""

STEPS = {FULL: (80, 800), LORA: (120, 1000), EMBEDDING: (200, 2000)}
"""Usual numbers of steps, of small models and of others."""

NEW_WORDS_STEPS = 1000
"""The same of any model that learns new words, which come last: looks that it knew are drawn as described after a tenth
of that (docs/figures.md)."""


@dataclass(frozen=True)
class FinetuningSettings:
    """How a denoiser is fine-tuned; see each field's help.

    The rate of an embedding is told for encoders spread like SD1's CLIP (`engines.vectors.scale_free_adam`).

    Raises:
        TrainingError: a value is out of range.
    """

    kind: str = setting(
        FULL,
        "What is learned: 'full' every weight of the model, 'LoRA' matrices of low rank that are added, 'embedding'"
        " vectors that stand before the prompt.",
        choices=KINDS,
    )
    steps: int = setting(
        AUTOMATIC, "Steps of learning. 0: what this kind and size of model is used to.", least=0, offered=(0, 100_000)
    )
    batch_size: int = setting(4, "Pictures a step. Lower it if memory runs out.", least=1, offered=(1, 64))
    learning_rate: float = setting(
        0.0, "Adam's rate. 0: what this kind and size of model is used to.", least=0, offered=(0.0, 1.0), step=1e-6
    )
    rank: int = setting(16, "Rank of LoRA.", least=1, offered=(1, 256), advanced=True)
    vectors: int = setting(4, "Vectors of an embedding.", least=1, offered=(1, 32), advanced=True)
    init: str = setting("", "Words that an embedding starts from. Empty: it starts at random.", advanced=True)
    text_encoder: bool = setting(False, "Whether the text encoder is fine-tuned as well.", advanced=True)
    new_words: str = setting(
        "",
        "Words of the captions that the text encoder does not know, with commas between: their embeddings are learned"
        " as well. Needs text_encoder.",
        advanced=True,
    )
    seed: int = setting(0, "The same seed and settings give the same model.", offered=(0, LARGEST_SEED))
    snapshot_every: int = setting(100, "Steps after which the run is saved.", least=1)

    def __post_init__(self) -> None:
        require_in_range(self, TrainingError)
        if self.has_new_words and (self.kind == EMBEDDING or not self.text_encoder):
            raise TrainingError(
                "New words are learned together with the text encoder: switch text_encoder on, or leave new_words"
                " empty."
            )

    @property
    def has_new_words(self) -> bool:
        """Whether embeddings of words are learned as well; errors are then those of pictures, see `picture_weights`."""
        return bool(self.new_words.strip())

    def word_rate(self, denoiser: Denoiser) -> float:
        """The rate of embeddings of new words, told as that of an embedding is."""
        return RATES[EMBEDDING][0 if max(denoiser.picture_size) <= SMALL else 1]

    def resolved(self, denoiser: Denoiser) -> FinetuningSettings:
        """The same with what is `AUTOMATIC` chosen for a denoiser."""
        which = 0 if max(denoiser.picture_size) <= SMALL else 1
        usual, rate = STEPS[self.kind][which], RATES[self.kind][which]
        steps = self.steps or (NEW_WORDS_STEPS if self.has_new_words else usual)
        if self.has_new_words:  # So that all other weights wander no further than in their usual number of steps.
            rate *= min(1.0, usual / steps) ** 0.5
        return replace(self, steps=steps, learning_rate=self.learning_rate or rate)
