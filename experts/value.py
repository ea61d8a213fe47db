"""Holds what experts are: what each does not compute, what it learned, and which prompts it is for."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..engines.pruning.parts import DIFFUSERS, engine_of
from ..engines.pruning.units import LeftOut
from ..prefix.errors import ExpertsError
from .router import Router
from .widths import kept_share

FORMAT_VERSION = 3

OF_BLOCKS = 2
"""Version of files whose experts leave out whole blocks alone."""

BEFORE_NOISE = 1
"""Version of files whose experts leave blocks out at all levels of noise."""


@dataclass(frozen=True)
class ExpertsRecord:
    """What experts were learned on, and how.

    Attributes:
        family: the base model family.
        fingerprint: `prefix.fingerprint` of the denoiser.
        parts: names of all blocks that could go.
        shares: of the denoiser's multiplications, for each of them.
        settings: those of `ExpertsSettings`.
        created: ISO date.
        counts: prompts learned from, by expert.
        errors: squared distance to the whole model's predictions, as a share of their own square, and the same of what
            prompts change in them, the mean of both, where blocks are left out, by expert: before it learned, after.
        whole_until: time t up to which all blocks compute, 0 (never) to 1.
        units: of the denoiser's multiplications those that narrowing a layer can save, by the name of the module that
            holds its units: what all of them make together. Empty where no layer is narrowed.
        format_version: of the file.
    """

    family: str
    fingerprint: str
    parts: tuple[str, ...]
    shares: tuple[float, ...]
    settings: Mapping[str, Any]
    created: str
    counts: tuple[int, ...]
    errors: tuple[tuple[float, float], ...]
    whole_until: float = 0.0
    units: Mapping[str, float] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION

    def to_json(self) -> str:
        """The record as text."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @staticmethod
    def from_json(text: str) -> ExpertsRecord:
        """The record of a text.

        Raises:
            ExpertsError: it is of another version, or none.
        """
        try:
            table = json.loads(text)
            version = table["format_version"]
            if version not in (BEFORE_NOISE, OF_BLOCKS, FORMAT_VERSION):
                raise ExpertsError(
                    f"It is of version {version!r:.20}, and this one reads versions up to {FORMAT_VERSION}."
                )
            whole_until = 0.0 if version == BEFORE_NOISE else float(table["whole_until"])
            units = {} if version != FORMAT_VERSION else table["units"]
            units = {str(name)[:200]: float(share) for name, share in units.items()}
            if not (0 <= whole_until < 1 and all(0 <= share <= 1 for share in units.values())):
                raise ExpertsError("Its record makes no sense.")
            return ExpertsRecord(
                str(table["family"])[:100],
                str(table["fingerprint"])[:100],
                tuple(str(name)[:200] for name in table["parts"]),
                tuple(float(share) for share in table["shares"]),
                dict(table["settings"]),
                str(table["created"])[:40],
                tuple(int(count) for count in table["counts"]),
                tuple((float(before), float(after)) for before, after in table["errors"]),
                whole_until,
                units,
            )
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise ExpertsError("Its record makes no sense.") from error


@dataclass(frozen=True)
class TunedExpert:
    """What came of an expert's own learning.

    Attributes:
        delta: LoRA as files have it, without what narrowed layers do not compute.
        before, after: the expert's error without and with it; see `ExpertsRecord.errors`.
    """

    delta: Mapping[str, Tensor]
    before: float
    after: float


@dataclass(frozen=True)
class Experts:
    """Experts of one denoiser.

    Attributes:
        record: what they were learned on.
        router: which prompts each is for.
        kept: `[K, P]` bool, the blocks of `record.parts` that each computes.
        deltas: what each learned, as LoRA files have it, without what narrowed layers do not compute; empty tables
            where nothing was.
        units: `[K, count]` bool by the name of the module that holds them, as `record.units`: those that each computes.
        examples: some prompts of each, for people; not in the file.

    Raises:
        ExpertsError: these do not belong together.
    """

    record: ExpertsRecord
    router: Router
    kept: Tensor
    deltas: tuple[Mapping[str, Tensor], ...]
    units: Mapping[str, Tensor] = field(default_factory=dict)
    examples: tuple[Sequence[str], ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        count, parts = len(self.deltas), len(self.record.parts)
        whole = (
            count > 0
            and self.kept.shape == (count, parts)
            and self.kept.dtype == torch.bool
            and len(self.record.shares) == parts
            and len(self.record.counts) == len(self.record.errors) == count
            and self.router.centroids.ndim == self.router.directions.ndim == 2
            and self.router.centroids.shape == (count, self.router.directions.shape[1])
            and self.router.mean.shape == (self.router.directions.shape[0],)
            and self.units.keys() == self.record.units.keys()
            and all(_is_mask(mask, count) for mask in self.units.values())
        )
        tensors = [self.router.mean, self.router.directions, self.router.centroids]
        tensors += [tensor for delta in self.deltas for tensor in delta.values()]
        if not whole or not all(tensor.is_floating_point() and bool(tensor.isfinite().all()) for tensor in tensors):
            raise ExpertsError("Masks, router and weights do not belong together.")

    def __len__(self) -> int:
        return len(self.deltas)

    def removed(self, expert: int) -> tuple[str, ...]:
        """Names of the blocks that an expert lacks."""
        return tuple(name for name, kept in zip(self.record.parts, self.kept[expert].tolist(), strict=True) if not kept)

    def left_out(self, expert: int) -> LeftOut:
        """All that an expert does not compute."""
        return LeftOut(self.removed(expert), {name: mask[expert] for name, mask in self.units.items()})

    def share(self, expert: int) -> float:
        """Of the denoiser's multiplications that an expert makes, over a drawing whose steps are spread evenly over
        time."""
        left_out = self.left_out(expert)
        shares = dict(zip(self.record.parts, self.record.shares, strict=True))
        gone = sum(shares[name] for name in left_out.blocks) + 1.0 - kept_share(self.record.units, left_out.kept)
        return 1.0 - (1.0 - self.record.whole_until) * gone

    def chosen(self, embeddings: Tensor) -> int:
        """The expert for prompts `[n, d]` that are drawn together: of those that they ask for, the largest.

        Raises:
            ExpertsError: the text encoder is another.
        """
        return max(self.router.route(embeddings).unique().tolist(), key=self.share)

    def require_model(self, fingerprint: str, engine: str) -> None:
        """Raises `ExpertsError` if they were learned on another denoiser, or in another engine than this one."""
        learned_in = engine_of(self.record.parts)
        if learned_in != engine:
            remedy = "draw with a pipeline of diffusers" if learned_in == DIFFUSERS else "draw in ComfyUI"
            raise ExpertsError(
                f"These experts were learned with {learned_in}, which calls the blocks that they leave out by other"
                f" names than {engine} does: {remedy}, or learn experts here."
            )
        if fingerprint != self.record.fingerprint:
            raise ExpertsError(
                f"These experts were learned on another model ({self.record.family}): load the checkpoint that they"
                " were learned on, or learn experts of this one."
            )


def _is_mask(mask: Tensor, experts: int) -> bool:
    """Whether it says of a layer's units which each expert computes: one at least."""
    is_whole = mask.dtype == torch.bool and mask.ndim == 2 and len(mask) == experts and mask.shape[1] > 0
    return is_whole and bool(mask.any(1).all())
