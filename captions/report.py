"""Tells what was described and what was not: a table for programs, a report for people."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from .describing import Answered, Description
from .people import DescribedPerson

COLUMNS = ("attribute", "answer", "probability", "said", "why not")
MOST_FINDINGS = 12
"""Pictures that a report names one by one."""


def table_of_pictures(descriptions: Iterable[Description], name: Callable[[int], str]) -> str:
    """CSV: what was read of every face, attribute by attribute, and whether it is said; pictures without one, too.

    Args:
        name: what a picture is called, by its number.
    """
    rows = []
    for one in descriptions:
        picture = name(one.picture)
        if not one.described:
            rows.append((picture, "", "", "", "", one.finding))
        rows += [(picture, *_cells(answered)) for answered in one.answers]
    return _csv(("picture", *COLUMNS), rows)


def table_of_people(people: Iterable[DescribedPerson]) -> str:
    """The same of people."""
    rows = []
    for person in people:
        if person.finding:
            rows.append((person.name, "", "", "", "", person.finding))
        rows += [(person.name, *_cells(answered)) for answered in person.answers]
    return _csv(("person", *COLUMNS), rows)


def report_of_pictures(descriptions: Sequence[Description], name: Callable[[int], str], reader: str) -> str:
    """What a person is told of a run."""
    faces = [one for one in descriptions if one.described]
    pictures = len({one.picture for one in descriptions})
    said = [f"{_counted(len(faces), 'face')} described in {_counted(pictures, 'picture')}, by {reader}."]
    said += _left_out([one.answers for one in faces])
    return "\n".join(said + finding_lines((name(one.picture), one.finding) for one in descriptions))


def report_of_people(
    people: Sequence[DescribedPerson], reader: str, nameless: int = 0, folders: Iterable[tuple[str, str]] = ()
) -> str:
    """The same of people.

    Args:
        nameless: how many pictures are left out because nobody can be told from their paths.
        folders: see `names.mixed_folders`.
    """
    described = [person for person in people if person.description and not person.finding]
    photos = sum(person.photos for person in people)
    said = [
        f"{len(described)} of {_counted(len(people), 'person')} described from {_counted(photos, 'picture')}, by"
        f" {reader}."
    ]
    said += _left_out([person.answers for person in described])
    said += finding_lines((person.name, person.finding) for person in people)
    said += finding_lines(folders)
    if nameless:
        said.append(f"Left out for want of a person's name: {nameless}. Call the files by the people.")
    return "\n".join(said)


def finding_lines(findings: Iterable[tuple[str, str]]) -> list[str]:
    """Lines about those of which there is something to know, the first few by name."""
    told = [(name, finding) for name, finding in findings if finding]
    lines = [f"{name}: {finding.rstrip('.')}." for name, finding in told[:MOST_FINDINGS]]
    if len(told) > MOST_FINDINGS:
        lines.append(f"… and {len(told) - MOST_FINDINGS} more; the table has all.")
    return lines


def _left_out(answers: Sequence[Sequence[Answered]]) -> list[str]:
    """How often what was left out, as a line."""
    counts = Counter(one.attribute for some in answers for one in some if not one.said and one.why != "nothing to say")
    if not counts:
        return []
    return ["Left out: " + ", ".join(f"{name} {count}" for name, count in counts.most_common()) + "."]


def _cells(one: Answered) -> tuple[str, str, str, str, str]:
    return one.attribute, " and ".join(one.answers), f"{one.probability:.3f}", "yes" if one.said else "no", one.why


def _csv(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(rows)
    return written.getvalue()


def _counted(count: int, noun: str) -> str:
    plural = "people" if noun == "person" else f"{noun}s"
    return f"{count} {noun if count == 1 else plural}"
