"""Holds what an evaluation ends in: as JSON and CSV, and as figures in a prefix's record."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..prefix import MeasurementError, Prefix, seal, with_scores
from .scores import PersonScores, Scores
from .settings import EvaluationSettings

PLAIN = "none"
"""The name of the column without a prefix."""

FIGURES = {
    "identification_rate": ("identification rate", "lower"),
    "recognition_rate": ("recognition rate", "lower"),
    "identity_similarity_mean": ("identity similarity, mean", "lower"),
    "identity_similarity_max": ("identity similarity, max", "lower"),
    "face_retention": ("face retention", "higher"),
    "attribute_retention": ("attribute retention", "higher"),
    "preservation": ("preservation", "lower"),
    "clip_score": ("CLIP score", "higher"),
    "fid": ("FID", "lower"),
    "kid": ("KID", "lower"),
}
"""What the figures of `Scores` are called, and which way is better."""


@dataclass(frozen=True)
class Column:
    """One prefix, or none, and its figures.

    Attributes:
        name: in the table.
        prefix: `prefix.seal` of its vectors; None for the plain model.
    """

    name: str
    prefix: str | None
    scores: Scores
    people: tuple[PersonScores, ...]


@dataclass(frozen=True, eq=False)
class Example:
    """One prompt drawn from one noise by each column in turn: thumbnails uint8 [height, width, 3]."""

    prompt: str
    pictures: tuple[np.ndarray, ...]


@dataclass(frozen=True)
class Evaluation:
    """What was measured, how, and what came out.

    Attributes:
        protocol: `settings.PROTOCOL_VERSION`.
        date: ISO 8601, UTC.
        model: the denoiser's family, fingerprint and digest.
        drawing: sampler, steps, guidance.
        settings: what was drawn.
        names: of the people, in order.
        recognizer: its name, threshold and where that comes from.
        gallery: where the known faces come from, of how many of the people there are some, how many strangers.
        quality: what CLIP score, FID and KID were measured with; empty if they were not.
        columns: `PLAIN` first.
        notes: what the reader should know beside, a sentence each.
        examples: to look at; not among what is written as JSON.
    """

    protocol: int
    date: str
    model: Mapping[str, str]
    drawing: Mapping[str, Any]
    settings: EvaluationSettings
    names: tuple[str, ...]
    recognizer: Mapping[str, Any]
    gallery: Mapping[str, Any]
    quality: str
    columns: tuple[Column, ...]
    notes: tuple[str, ...] = ()
    examples: tuple[Example, ...] = field(default=(), repr=False, compare=False)

    def provenance(self) -> dict[str, Any]:
        """What the figures follow from, and when they were measured; JSON values."""
        settings = dataclasses.asdict(self.settings)
        del settings["batch_size"]  # Does not change them.
        return json.loads(
            json.dumps(
                {
                    "protocol": self.protocol,
                    "date": self.date,
                    "model": dict(self.model),
                    "drawing": dict(self.drawing),
                    "settings": settings,
                    "names": list(self.names),
                    "recognizer": dict(self.recognizer),
                    "gallery": dict(self.gallery),
                    "quality": self.quality,
                }
            )
        )


def figures(scores: Scores) -> dict[str, float]:
    """The figures that were measured, by name."""
    return {name: value for name, value in dataclasses.asdict(scores).items() if value is not None}


def to_json(evaluation: Evaluation) -> str:
    """Everything but the pictures, as JSON."""
    columns = [
        {
            "name": column.name,
            "prefix": column.prefix,
            "scores": dataclasses.asdict(column.scores),
            "people": [dataclasses.asdict(person) for person in column.people],
        }
        for column in evaluation.columns
    ]
    table = {**evaluation.provenance(), "columns": columns, "notes": list(evaluation.notes)}
    return json.dumps(table, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def to_csv(evaluation: Evaluation) -> str:
    """One figure a row: column, person (empty: over all), figure, value (empty: not measured)."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("prefix", "person", "figure", "value"))
    for column in evaluation.columns:
        for name, value in dataclasses.asdict(column.scores).items():
            writer.writerow((column.name, "", name, "" if value is None else repr(value)))
        for person in column.people:
            for name, value in dataclasses.asdict(person).items():
                if name != "name":
                    writer.writerow((column.name, person.name, name, "" if value is None else repr(value)))
    return text.getvalue()


def scored(prefix: Prefix, evaluation: Evaluation) -> Prefix:
    """The same prefix, its record with its figures and what produced them; see `prefix.scored`.

    Raises:
        MeasurementError: it is not among those evaluated.
    """
    mine = seal(prefix.parameters, {})
    for column in evaluation.columns:
        if column.prefix == mine:
            return with_scores(prefix, figures(column.scores), evaluation.provenance())
    raise MeasurementError("This prefix is not among those evaluated: evaluate it first.")
