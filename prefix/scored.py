"""Puts measured figures into a prefix's record, and tells them from edited ones.

The record's `scores` hold the figures, its `evaluation` what produced them (protocol, model, seeds, settings) with a
digest over the vectors, those figures and that. There is no key in it: it shows that something was changed afterwards,
not who measured.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from .digests import seal
from .errors import PrefixValueError
from .value import Prefix

_DIGEST = "sha256"
_SCORES = "scores"


def with_scores(prefix: Prefix, scores: Mapping[str, float], provenance: Mapping[str, Any]) -> Prefix:
    """The same prefix with figures in its record, and what produced them; those of an earlier evaluation are replaced.

    Args:
        scores: figures by name. Others that the record has, such as the trainer's own validation, stay.
        provenance: JSON values; not empty.

    Raises:
        PrefixValueError: a figure is not finite, or a value cannot be written as JSON.
    """
    if not provenance:
        raise PrefixValueError("Scores need to say what produced them.")
    kept = {name: value for name, value in prefix.record.scores.items() if name not in _evaluated(prefix)}
    fields = json.loads(json.dumps({**provenance, _SCORES: dict(scores)}))
    record = dataclasses.replace(
        prefix.record, scores=kept | dict(scores), evaluation=fields | {_DIGEST: seal(prefix.parameters, fields)}
    )
    return dataclasses.replace(prefix, record=record)


def scores_hold(prefix: Prefix) -> bool | None:
    """Whether the record's evaluated figures are those that were measured of these vectors; None if it has none.

    False if figures, provenance or vectors were changed since.
    """
    fields = dict(prefix.record.evaluation)
    if not fields:
        return None
    stated = fields.pop(_DIGEST, "")
    scores = _evaluated(prefix)
    told = {name: prefix.record.scores.get(name) for name in scores}
    return bool(scores) and stated == seal(prefix.parameters, fields) and told == scores


def _evaluated(prefix: Prefix) -> dict[str, Any]:
    scores = prefix.record.evaluation.get(_SCORES, {})
    return dict(scores) if isinstance(scores, Mapping) else {}
