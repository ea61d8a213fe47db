"""Scores what a prefix does where it should do nothing: to prompts that name nobody."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from .picture_sets import EvaluationContext, PictureSet
from .quality import NOTHING, Quality, QualityScores
from .results import PLAIN
from .scores import picture_distance


class GeneralPromptScores:
    """How far prompts that name nobody move, and what that costs in quality.

    Args:
        general: the picture sets of these prompts by column; empty if nothing is asked.
        other: the plain model's, in other noise.
    """

    def __init__(
        self,
        general: Mapping[str, PictureSet],
        other: PictureSet | None,
        context: EvaluationContext,
        quality: Quality | None,
    ) -> None:
        self._general, self._other, self._context, self._quality = general, other, context, quality
        self._apart: float | None = None

    def of(self, name: str) -> tuple[float | None, QualityScores]:
        """Preservation and quality of a column; the plain one comes first."""
        if not self._general:
            return None, NOTHING
        plain, mine = self._general[PLAIN], self._general[name]
        if self._quality is not None:
            self._quality.reset()

        def look(indices: Sequence[int]) -> np.ndarray:
            before = plain.pictures(indices)
            after = before if name == PLAIN else mine.pictures(indices)
            other = after
            if name == PLAIN:
                assert self._other is not None
                other = self._other.pictures(indices)
            apart = picture_distance(before, other)
            # Last: where memory runs out, all of this is done anew, and these would count twice.
            if self._quality is not None:
                self._quality.add(after, [plain.requests[index].prompt for index in indices], before)
            self._context.tick(len(indices))
            return apart

        moved = float(np.concatenate(self._context.micro_batches.work(look, range(len(plain.requests)))).mean())
        scores = NOTHING if self._quality is None else self._quality.scores(against_itself=name == PLAIN)
        if name == PLAIN:
            self._apart = moved
            return 0.0, scores
        return (moved / self._apart if self._apart else None), scores
