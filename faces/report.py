"""Tells a measurement in plain words: the verdict, and what it rests on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .measurement import Against, FacePair, Measurement
from .scoring import Spread

MOST_NAMED = 6
"""Pictures that a sentence names."""

FEW = 20
"""Fewer compared faces than this are too few for a judgement on a prefix."""


def verdict(measurement: Measurement) -> str:
    """One sentence: whether the people in the pictures are still recognized."""
    faces, recognized = len(measurement.compared), measurement.recognized
    if not measurement.pairs:
        return "Not measured: no face was found in the plain pictures."
    if not faces:
        return "No face is left in the anonymized pictures: nobody is recognized, and nobody is shown either."
    if not recognized:
        return f"Protected: {'the one face is not' if faces == 1 else f'none of {faces} faces is'} recognized any more."
    if recognized == faces:
        return f"Not protected: {'the one face is' if faces == 1 else f'all of {faces} faces are'} still recognized."
    return (
        f"Not fully protected: {recognized} of {_faces(faces)} {'is' if recognized == 1 else 'are'} still recognized."
    )


def describe(measurement: Measurement) -> str:
    """The verdict, a table of the figures behind it, the pictures that are to be looked at, and what it rests on."""
    threshold = measurement.threshold
    lines = [verdict(measurement), "", *aligned(_table(measurement)), "", *_remarkable(measurement)]
    lines += [f"No face was found in {_share(*empty)} of the {name} pictures." for name, empty in _empty(measurement)]
    lost = len(measurement.pairs) - len(measurement.compared)
    if lost:
        lines.append(f"{_faces(lost)} of the plain pictures {'has' if lost == 1 else 'have'} no counterpart.")
    if measurement.against is not None:
        lines += _references(measurement.against)
    if 0 < len(measurement.compared) < FEW:
        lines.append(f"So few faces say little about a prefix: draw {FEW} or more to judge it.")
    lines += [
        f"Recognized means a similarity of at least {threshold.value:.3f} ({threshold.source}).",
        f"Faces were recognized by {measurement.recognizer}.",
    ]
    return "\n".join(lines)


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """A table as lines of letters of one width: the first column to the left, the others to the right."""
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    pad = [str.ljust, *[str.rjust] * (len(widths) - 1)]
    return ["  ".join(map(lambda side, cell, width: side(cell, width), pad, row, widths)) for row in rows]


def _table(measurement: Measurement) -> list[tuple[str, str]]:
    """What was found, a row each."""
    similarity, compared = measurement.similarity, len(measurement.compared)
    rows = [("Face retention", _share(*measurement.retention)), ("Faces compared", str(compared))]
    if compared:
        rows += [
            ("Still recognized", _share(measurement.recognized, compared)),
            ("Similarity, mean", f"{similarity.mean:.3f}"),
            ("Similarity, largest", f"{similarity.max:.3f}"),
        ]
    return rows


def _references(against: Against) -> list[str]:
    who, photos = against.identification, against.photos
    if against.without_face == photos:
        return [f"The references were of no use: no face was found in {_share(photos, photos)} of the photos."]
    lines = [
        f"Similarity to the references: plain {_figures(against.plain)}; anonymized {_figures(against.anonymized)}.",
        f"The references show {'1 person' if who.people == 1 else f'{who.people} people'}.",
    ]
    if against.without_face:
        lines.append(f"No face was found in {_share(against.without_face, photos)} of the reference photos.")
    if not against.anonymized.count:
        return lines
    if not who.known:
        lines.append(
            "None of the plain faces is recognized as one of them: the model may not know them, and then there is"
            " nothing to take away."
        )
        return lines
    lines.append(
        f"Of {_faces(who.known)} recognized as one of them before, {who.recognized} still"
        f" {'is' if who.recognized == 1 else 'are'} after."
    )
    if who.people > 1:
        lines.append(
            f"Identification: {_share(who.found, who.known)} are still nearest to the same person"
            f" (by chance {1 / who.people:.2f})."
        )
    return lines


def _remarkable(measurement: Measurement) -> Iterator[str]:
    """The pictures in which somebody is still recognized, the most alike first, and those in which no face is left."""
    known = [pair for pair in measurement.compared if pair.recognized(measurement.threshold.value)]
    known.sort(key=lambda pair: -(pair.similarity or 0.0))
    if known:
        yield f"Still recognized: {_listed([f'{_picture(pair)} ({pair.similarity:.3f})' for pair in known])}."
    gone = [_picture(pair) for pair in measurement.pairs if pair.similarity is None]
    if gone:
        yield f"No face is left in its place: {_listed(gone)}."


def _picture(pair: FacePair) -> str:
    return f"picture {pair.picture + 1}"


def _listed(pictures: Sequence[str]) -> str:
    """The first of them, and how many more there are."""
    more = len(pictures) - MOST_NAMED
    return ", ".join(pictures[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _empty(measurement: Measurement) -> list[tuple[str, tuple[int, int]]]:
    counted = (
        (name, (sum(not faces for faces in pictures), len(pictures)))
        for name, pictures in (("plain", measurement.plain), ("anonymized", measurement.anonymized))
    )
    return [(name, counts) for name, counts in counted if counts[0]]


def _figures(figures: Spread) -> str:
    return f"mean {figures.mean:.3f}, largest {figures.max:.3f}" if figures.count else "nothing to compare"


def _share(some: int, of: int) -> str:
    return f"{some} of {of}"


def _faces(count: int) -> str:
    return "1 face" if count == 1 else f"{count} faces"
