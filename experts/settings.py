"""Defines the settings of learning experts and their defaults."""

from __future__ import annotations

from dataclasses import dataclass

from ..prefix.errors import ExpertsError
from ..runs.settings import LARGEST_SEED, require_in_range, setting

BLOCKS, WIDTHS = "whole blocks", "narrower layers"
"""What an expert may do without."""


@dataclass(frozen=True)
class ExpertsSettings:
    """How experts are learned; see each field's help.

    Raises:
        ExpertsError: a value is out of range.
    """

    experts: int = setting(
        1, "Experts, each for a kind of prompt. 1: the same one for all prompts.", least=1, most=32, offered=(1, 32)
    )
    keep: float = setting(
        0.75,
        "Share of the model's compute that an expert keeps at most. It may keep a little less.",
        least=0.05,
        most=1.0,
        offered=(0.1, 1.0),
        step=0.01,
    )
    whole_share: float = setting(
        0.33,
        "Share of an expert's compute for the last steps of a drawing, which the whole model makes: faces get their"
        " likeness there. 0: blocks are left out of all steps.",
        least=0.0,
        most=0.9,
        offered=(0.0, 0.9),
        step=0.01,
        advanced=True,
    )
    steps: int = setting(
        30,
        "Steps in which each expert learns which blocks to keep, after their sensitivity was measured. 0: what was"
        " measured decides alone. Narrower layers need none.",
        least=0,
        offered=(0, 10_000),
    )
    tuning_steps: int = setting(
        200,
        "Steps in which each expert learns to answer as the whole model does. 0: none.",
        least=0,
        offered=(0, 100_000),
    )
    pictures: int = setting(
        128,
        "Pictures that the model draws first, to learn from: at least as many as there are prompts is good.",
        least=1,
        offered=(1, 10_000),
    )
    batch_size: int = setting(8, "Pictures a step. Lower it if memory runs out.", least=1, offered=(1, 64))
    rank: int = setting(10, "Rank of the LoRA that each expert learns.", least=1, offered=(1, 256), advanced=True)
    learning_rate: float = setting(
        0.0,
        "Adam's rate of that LoRA. 0: what this size of model is used to.",
        least=0,
        offered=(0.0, 1.0),
        step=1e-6,
        advanced=True,
    )
    seed: int = setting(0, "The same seed and settings give the same experts.", offered=(0, LARGEST_SEED))

    leave_out: str = setting(
        BLOCKS,
        "What goes. Whole blocks: saves most time with small pictures. Narrower layers: all blocks stay, and each"
        " computes less; keeps far more of what the model can, in models of SD1, SD2 and SDXL.",
        choices=(BLOCKS, WIDTHS),
    )

    def __post_init__(self) -> None:
        require_in_range(self, ExpertsError)

    @property
    def whole_until(self) -> float:
        """Time t in 0 (clean) to 1 (noise) up to which all blocks compute. A drawing's steps are spread evenly over
        time, so it is their share of the steps as well."""
        return self.keep * self.whole_share

    @property
    def keep_above(self) -> float:
        """Share of the compute that is kept at later times, so that `keep` is kept on average."""
        return (self.keep - self.whole_until) / (1 - self.whole_until)
