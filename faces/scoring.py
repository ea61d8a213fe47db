"""Turns compared faces into figures.

Pure functions of numbers, next to values that hold them (docs/METHODS.md 1.8): identity similarity is the cosine
similarity of face embeddings, face retention the share of pictures in which a face is still found, identification the
share of pictures in which the person named ranks first. Whoever asks who ranks first asks here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from .gallery import Gallery

Similarities = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""`Recognizer.similarities`."""


@dataclass(frozen=True)
class Spread:
    """Mean and largest of some figures, and how many there were; NaN of none."""

    mean: float
    max: float
    count: int


@dataclass(frozen=True)
class Identification:
    """Whom of the people in the references faces are taken for.

    Attributes:
        people: how many people the references show.
        known: faces that were recognized as one of them without anonymization.
        found: those among them whose anonymized face is still nearer to the same person than to any other.
        recognized: those among them whose anonymized face is, by the threshold, still that person's.
    """

    people: int
    known: int
    found: int
    recognized: int


@dataclass(frozen=True)
class Ranked:
    """How pictures stand to the people whom they were to show.

    Attributes:
        first: whether the person ranks first among all known faces, bool [n].
        own: similarity to the most similar of the person's known faces, [n]; NaN without a face, or where none of the
            person is known.
    """

    first: np.ndarray
    own: np.ndarray


def spread(figures: Sequence[float]) -> Spread:
    """Mean, largest and count."""
    if not len(figures):
        return Spread(float("nan"), float("nan"), 0)
    return Spread(float(np.mean(figures)), float(np.max(figures)), len(figures))


def pair_by_place(some: np.ndarray, others: np.ndarray) -> list[tuple[int, int]]:
    """Which box of one picture belongs to which of another: as many pairs as there can be, with the least distance.

    The distance of two boxes is that of their centres, the sum over all pairs is made least (Hungarian method).

    Args:
        some, others: boxes [n, 4] and [m, 4] as shares of the picture's width and height, 0 to 1.

    Returns:
        Pairs of indices in the order of `some`; faces without a partner are in none.
    """
    if not len(some) or not len(others):
        return []
    from scipy.optimize import linear_sum_assignment

    first, second = ((boxes[:, :2] + boxes[:, 2:]) / 2 for boxes in (some, others))
    distances = np.linalg.norm(first[:, None] - second[None], axis=-1)
    return [(int(i), int(j)) for i, j in zip(*linear_sum_assignment(distances), strict=True)]


def group(similarities: np.ndarray, threshold: float) -> np.ndarray:
    """Who is whom among faces: [n] numbers of people from 0, in the order in which they first appear.

    Two faces are one person's if they are alike by the threshold, or joined by a chain of faces that are.
    """
    people = np.full(len(similarities), -1)
    for index in range(len(similarities)):
        if people[index] >= 0:
            continue
        waiting, people[index] = [index], people.max() + 1
        while waiting:
            face = waiting.pop()
            alike = np.flatnonzero((similarities[face] >= threshold) & (people < 0))
            people[alike] = people[index]
            waiting += alike.tolist()
    return people


def by_person(similarities: np.ndarray, people: np.ndarray) -> np.ndarray:
    """Likeness of faces to people, to each by the photo that is most alike: [n, photos] to [n, people]."""
    return np.stack([similarities[:, people == person].max(1) for person in range(people.max() + 1)], axis=1)


def ranks_first(similarities: np.ndarray, whose: np.ndarray, people: np.ndarray) -> np.ndarray:
    """Whether each face is nearest, among all known ones, to one of the person's own: bool [n].

    Args:
        similarities: of faces to known ones, [n, m].
        whose: [m] number of the person whom each known face shows; anything else for others.
        people: [n] number of the person whom each face is asked about.
    """
    return np.asarray(whose)[similarities.argmax(1)] == np.asarray(people)


def rank(
    faces: np.ndarray, embeddings: np.ndarray, people: np.ndarray, gallery: Gallery, similarities: Similarities
) -> Ranked:
    """Ranks pictures in a gallery (rank-1 of docs/METHODS.md 1.8); one without a face finds nobody.

    Args:
        faces: whether each picture has a face, bool [n].
        embeddings: of that face, [n, d].
        people: [n] number of the person whom each picture was to show, as the gallery numbers them.
        gallery: everybody who may be found.
        similarities: of the recognizer.
    """
    people = np.asarray(people)
    ranked = Ranked(np.zeros(len(people), bool), np.full(len(people), np.nan))
    seen = np.flatnonzero(faces)
    if len(seen) and len(gallery.people):
        alike = similarities(embeddings[seen], gallery.embeddings)
        ranked.first[seen] = ranks_first(alike, gallery.people, people[seen])
        theirs = gallery.people[None] == people[seen][:, None]
        ranked.own[seen] = np.where(theirs.any(1), np.where(theirs, alike, -np.inf).max(1), np.nan)
    return ranked


def identify(plain: np.ndarray, anonymized: np.ndarray, threshold: float) -> Identification:
    """Whom faces are taken for, by the likeness of plain and anonymized ones to people: both [n, people]."""
    known = plain.max(1, initial=-np.inf) >= threshold
    who = plain[known].argmax(1)
    after = anonymized[known]
    likeness = after[np.arange(len(after)), who]
    return Identification(
        people=plain.shape[1],
        known=int(known.sum()),
        found=int(ranks_first(after, np.arange(plain.shape[1]), who).sum()),
        recognized=int((likeness >= threshold).sum()),
    )
