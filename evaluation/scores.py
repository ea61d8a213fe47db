"""Turns readings of pictures into the figures of an evaluation.

Pure functions of numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..faces.gallery import Gallery
from ..faces.scoring import Similarities, rank
from .readings import Readings


@dataclass(frozen=True)
class PersonScores:
    """What became of one person.

    Attributes:
        name: the person's.
        pictures, faces: how many were drawn, and in how many a face was found.
        similarity_mean, similarity_max: of the faces to the person's own; None without faces to compare.
        identified: pictures in which the person is found first among all known faces; None if theirs is not known.
        recognized: pictures whose face is the person's by the recognizer's threshold; None likewise.
    """

    name: str
    pictures: int
    faces: int
    similarity_mean: float | None
    similarity_max: float | None
    identified: int | None
    recognized: int | None


@dataclass(frozen=True)
class Scores:
    """The figures of one column; None where there was nothing to measure.

    Attributes:
        identity_similarity_mean, identity_similarity_max: mean and largest of each person's pictures, averaged over
            the people.
        identification_rate: share of pictures in which the person named is found first.
        recognition_rate: share of pictures whose face is, by the threshold, the person's named.
        face_retention: share of pictures in which a face is found.
        attribute_retention: share of described looks that are there.
        preservation: how far prompts that name nobody moved, as a share of what another noise does.
        clip_score, fid, kid: see `quality`.
    """

    identity_similarity_mean: float | None = None
    identity_similarity_max: float | None = None
    identification_rate: float | None = None
    recognition_rate: float | None = None
    face_retention: float | None = None
    attribute_retention: float | None = None
    preservation: float | None = None
    clip_score: float | None = None
    fid: float | None = None
    kid: float | None = None


def score_people(
    names: Sequence[str],
    people: Sequence[int],
    readings: Readings,
    gallery: Gallery,
    similarities: Similarities,
    threshold: float,
) -> tuple[PersonScores, ...]:
    """What became of each of the people.

    A face's likeness to a person is that to the most similar of the person's known faces. A picture without a face
    finds nobody.

    Args:
        people: number of the person whom each picture was to show, places in `names`.
    """
    whose = np.asarray(people)
    known = set(gallery.people.tolist())
    ranked = rank(readings.faces, readings.embeddings, whose, gallery, similarities)
    scores = []
    for number, name in enumerate(names):
        mine = whose == number
        figures = ranked.own[mine & ~np.isnan(ranked.own)]
        scores.append(
            PersonScores(
                name,
                int(mine.sum()),
                int(readings.faces[mine].sum()),
                float(figures.mean()) if len(figures) else None,
                float(figures.max()) if len(figures) else None,
                int(ranked.first[mine].sum()) if number in known else None,
                int((figures >= threshold).sum()) if number in known else None,
            )
        )
    return tuple(scores)


def score_column(people: Sequence[PersonScores], readings: Readings, **others: float | None) -> Scores:
    """The figures over all people; `others` are those of prompts that name nobody, as `Scores` calls them."""
    known = [person for person in people if person.identified is not None]
    asked = sum(person.pictures for person in known)
    kept, told = readings.looks.sum(0).tolist()
    return Scores(
        identity_similarity_mean=_mean([person.similarity_mean for person in people]),
        identity_similarity_max=_mean([person.similarity_max for person in people]),
        identification_rate=_share(sum(person.identified or 0 for person in known), asked),
        recognition_rate=_share(sum(person.recognized or 0 for person in known), asked),
        face_retention=_share(int(readings.faces.sum()), len(readings)),
        attribute_retention=_share(kept, told),
        **others,
    )


def picture_distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Root mean square difference of each pair of pictures, in [0, 1]: [n]."""
    difference = (a.astype(np.float32) - b.astype(np.float32)) / 255
    return np.sqrt(np.square(difference).reshape(len(a), -1).mean(1))


def _mean(figures: Sequence[float | None]) -> float | None:
    there = [figure for figure in figures if figure is not None]
    return float(np.mean(there)) if there else None


def _share(some: int, of: int) -> float | None:
    return some / of if of else None
