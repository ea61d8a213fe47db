"""Measures two batches of pictures: finds, pairs and compares the faces in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..prefix import MeasurementError
from .recognizer import Face, Recognizer, Report, Threshold
from .scoring import Identification, Spread, by_person, group, identify, pair_by_place, spread

PICTURES_AT_ONCE = 8

Faces = tuple[Face, ...]


@dataclass(frozen=True)
class FacePair:
    """A face of a plain picture and the one in its place in the anonymized picture.

    Attributes:
        picture: index of the pair of pictures.
        plain, anonymized: the faces; `anonymized` is None if none is left in its place.
        similarity: how alike they are; None if there is nothing to compare.
        reference_similarity: how alike the anonymized face is to the person that the plain face is nearest to in the
            references; None without references.
    """

    picture: int
    plain: Face
    anonymized: Face | None
    similarity: float | None
    reference_similarity: float | None = None

    def recognized(self, threshold: float) -> bool:
        """Whether the anonymized face is still this person's, by the plain face or by the references."""
        figures = (self.similarity, self.reference_similarity)
        return any(figure is not None and figure >= threshold for figure in figures)


@dataclass(frozen=True)
class Against:
    """What the reference photos say: photos without a face, how alike faces are to them, and who is whom."""

    photos: int
    without_face: int
    plain: Spread
    anonymized: Spread
    identification: Identification


@dataclass(frozen=True)
class Measurement:
    """What was seen in n pairs of pictures.

    Attributes:
        recognizer: its name.
        threshold: from which similarity on it takes two faces for one person's.
        plain, anonymized: the faces in each picture.
        pairs: every face of a plain picture, in order.
        against: None without reference photos.
    """

    recognizer: str
    threshold: Threshold
    plain: tuple[Faces, ...]
    anonymized: tuple[Faces, ...]
    pairs: tuple[FacePair, ...]
    against: Against | None

    @property
    def compared(self) -> tuple[FacePair, ...]:
        """The pairs in which both faces are there."""
        return tuple(pair for pair in self.pairs if pair.anonymized is not None)

    @property
    def recognized(self) -> int:
        """How many of the compared faces are still recognized."""
        return sum(pair.recognized(self.threshold.value) for pair in self.pairs)

    @property
    def similarity(self) -> Spread:
        """Identity similarity over all compared faces."""
        return spread([pair.similarity for pair in self.compared if pair.similarity is not None])

    @property
    def retention(self) -> tuple[int, int]:
        """In how many pictures a face is left, of how many plain ones that show one."""
        shown = [bool(after) for before, after in zip(self.plain, self.anonymized, strict=True) if before]
        return sum(shown), len(shown)


def measure(
    recognizer: Recognizer,
    plain: np.ndarray,
    anonymized: np.ndarray,
    reference: np.ndarray | None = None,
    report: Report = lambda done, total: None,
) -> Measurement:
    """Compares the faces of plain pictures with those of anonymized ones, pair by pair.

    Several faces in a picture are paired by place (`scoring.pair_by_place`), since a prefix leaves people where they
    are. Of a reference photo the largest face counts.

    Args:
        plain, anonymized, reference: pictures uint8 [n, height, width, 3], `plain` and `anonymized` of one number.
        report: called with pictures done and all pictures after every few; may raise to stop.

    Raises:
        MeasurementError: the batches differ in number, or the recognizer cannot run.
    """
    if len(plain) != len(anonymized):
        raise MeasurementError(
            f"There are {len(plain)} plain pictures and {len(anonymized)} anonymized ones: connect batches of the same"
            " number, drawn from the same seeds, so that each picture has its counterpart."
        )
    batches = [plain, anonymized, *([] if reference is None else [reference])]
    total, done, found = sum(map(len, batches)), 0, []
    for batch in batches:
        faces: list[Faces] = []
        for start in range(0, len(batch), PICTURES_AT_ONCE):
            some = batch[start : start + PICTURES_AT_ONCE]
            faces += recognizer.find(some)
            done += len(some)
            report(done, total)
        found.append(tuple(faces))
    before, after = found[:2]
    pairs = [
        pair
        for index, (some, others) in enumerate(zip(before, after, strict=True))
        for pair in _pairs(recognizer, index, some, others, (_size(plain), _size(anonymized)))
    ]
    against = None
    if reference is not None:
        pairs, against = _against(recognizer, pairs, found[2])
    return Measurement(recognizer.name, recognizer.threshold, before, after, tuple(pairs), against)


def _pairs(
    recognizer: Recognizer, index: int, some: Faces, others: Faces, sizes: tuple[np.ndarray, np.ndarray]
) -> list[FacePair]:
    shares = [_boxes(faces) / size for faces, size in zip((some, others), sizes, strict=True)]
    partners = dict(pair_by_place(*shares))
    similarities = recognizer.similarities(_embeddings(some), _embeddings(others)) if partners else np.zeros((0, 0))
    pairs = []
    for number, face in enumerate(some):
        partner = partners.get(number)
        if partner is None:
            pairs.append(FacePair(index, face, None, None))
        else:
            pairs.append(FacePair(index, face, others[partner], float(similarities[number, partner])))
    return pairs


def _against(
    recognizer: Recognizer, pairs: Sequence[FacePair], references: Sequence[Faces]
) -> tuple[list[FacePair], Against]:
    photos = [faces[0] for faces in references if faces]
    without = len(references) - len(photos)
    compared = [pair for pair in pairs if pair.anonymized is not None]
    if not photos or not compared:
        nothing = spread([])
        count = len(set(_people(recognizer, photos).tolist())) if photos else 0
        return list(pairs), Against(len(references), without, nothing, nothing, Identification(count, 0, 0, 0))
    people = _people(recognizer, photos)
    plain, anonymized = (
        by_person(recognizer.similarities(_embeddings(faces), _embeddings(photos)), people)
        for faces in ([pair.plain for pair in compared], [pair.anonymized for pair in compared if pair.anonymized])
    )
    likeness = anonymized[np.arange(len(compared)), plain.argmax(1)].tolist()
    seen = iter(likeness)
    judged = [
        pair
        if pair.anonymized is None
        else FacePair(pair.picture, pair.plain, pair.anonymized, pair.similarity, next(seen))
        for pair in pairs
    ]
    return judged, Against(
        len(references),
        without,
        spread(plain.max(1).tolist()),
        spread(likeness),
        identify(plain, anonymized, recognizer.threshold.value),
    )


def _people(recognizer: Recognizer, photos: Sequence[Face]) -> np.ndarray:
    embeddings = _embeddings(photos)
    return group(recognizer.similarities(embeddings, embeddings), recognizer.threshold.value)


def _embeddings(faces: Sequence[Face]) -> np.ndarray:
    return np.stack([face.embedding for face in faces])


def _boxes(faces: Sequence[Face]) -> np.ndarray:
    return np.array([face.box for face in faces]).reshape(len(faces), 4)


def _size(pictures: np.ndarray) -> np.ndarray:
    """Width and height twice, as a box has them."""
    return np.array([pictures.shape[2], pictures.shape[1]] * 2)
