"""Without this module a prefix would not know what it scored: puts figures of an evaluation into its record."""

from __future__ import annotations

from ..prefix import MeasurementError, Prefix, seal, with_scores
from .results import Evaluation, figures


def scored(prefix: Prefix, evaluation: Evaluation) -> Prefix:
    """The same prefix, its record with its figures and what produced them; see `prefix.scored`.

    Raises:
        MeasurementError: it is not among those evaluated.
    """
    mine = seal(prefix.vectors, {})
    for column in evaluation.columns:
        if column.prefix == mine:
            return with_scores(prefix, figures(column.scores), evaluation.provenance())
    raise MeasurementError("This prefix is not among those evaluated: evaluate it first.")
