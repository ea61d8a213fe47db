"""Describes people from several photographs of each: what their majority says.

Names come from files and folders alone (`names`) and never get into a description.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from ..prefix.errors import AnonymizationError
from .attributes import Attribute
from .describing import DEFAULTS, Answered, CaptionWriter, DescribingSettings, Description, decided


class Listed(Protocol):
    """Somebody in a list."""

    @property
    def name(self) -> str:
        """Their name."""

    @property
    def description(self) -> str:
        """Their looks."""


Check = Callable[[str], Sequence[Listed]]
"""What a list reads in a line; raises an `AnonymizationError` for one that it cannot hold."""


@dataclass(frozen=True)
class DescribedPerson:
    """What several photographs say of one person.

    Attributes:
        name: as the first photograph has it.
        photos: how many there are.
        described: in how many of them a face was described.
        answers: what they say together.
        description: the sentence; empty if nothing was described.
        finding: why the person is left out, in words; empty if not.
    """

    name: str
    photos: int
    described: int
    answers: tuple[Answered, ...] = ()
    description: str = ""
    finding: str = ""

    @property
    def line(self) -> str:
        """What Identity List reads."""
        return f"{self.name}: {self.description}"


def describe_people(
    described: Iterable[tuple[str, Description]],
    attributes: Sequence[Attribute],
    settings: DescribingSettings = DEFAULTS,
    same: Callable[[str], str] = str.casefold,
    check: Check = lambda line: (),
) -> list[DescribedPerson]:
    """What the photographs of each person say together, in the order in which people first come.

    Args:
        described: names, and what came of a picture of theirs; pictures without a name belong to nobody.
        attributes: what was read, in order.
        same: what two spellings of one name have in common.
        check: reads each person's line as a list does.
    """
    photos: dict[str, list[tuple[str, Description]]] = {}
    for name, description in described:
        if name:
            photos.setdefault(same(name), []).append((name, description))
    writer = CaptionWriter(attributes, settings)
    people: list[DescribedPerson] = []
    for number, mine in enumerate(photos.values()):
        people.append(_person(mine, writer, settings, number))
    return [_checked(person, check) for person in people]


def _person(
    mine: Sequence[tuple[str, Description]], writer: CaptionWriter, settings: DescribingSettings, number: int
) -> DescribedPerson:
    name = mine[0][0]
    pictures = len({description.picture for _, description in mine})
    read = [description for _, description in mine if description.described]
    if not read:
        reason = next((description.finding for _, description in mine if description.finding), "nothing was described")
        return DescribedPerson(name, pictures, 0, finding=reason)
    answers = writer.consistent([majority(attribute, read, settings.certainty) for attribute in writer.attributes])
    return DescribedPerson(name, pictures, len(read), answers, writer.say(answers, (number, 0)))


def majority(attribute: Attribute, read: Sequence[Description], certainty: float) -> Answered:
    """What several photographs say of one attribute.

    Each in which something could be read has a vote: its likeliest answer, or two that are said together. What more
    than half of them vote for is said if one of these at least is certain of it. Of years, whose ranges differ from
    picture to picture, the mean of the probabilities is taken instead.

    Args:
        read: descriptions with the attribute's probabilities.
    """
    if attribute.bounds:
        return decided(attribute, np.mean([one.probabilities[attribute.name] for one in read], 0), certainty)
    told = [decided(attribute, one.probabilities[attribute.name], certainty) for one in read]
    votes = [one for one in told if one.answers]
    if not votes:
        return told[0]
    (answers, count), *_ = Counter(vote.answers for vote in votes).most_common(1)
    if 2 * count <= len(votes):
        return Answered(attribute.name, answers, count / len(votes), False, "the photographs differ")
    for_it = [vote for vote in votes if vote.answers == answers]
    certain = [vote.probability for vote in for_it if vote.said]
    if not certain:
        return max(for_it, key=lambda vote: vote.probability)
    return Answered(attribute.name, answers, float(np.mean(certain)), True)


def _checked(person: DescribedPerson, check: Check) -> DescribedPerson:
    if not person.description:
        return person
    try:
        read = check(person.line)
    except AnonymizationError as error:
        return replace(person, description="", finding=_of_one_line(error))
    if read and [(one.name, one.description) for one in read] != [(person.name, person.description)]:
        return replace(person, description="", finding="this name cannot stand in a list")
    return person


def _of_one_line(error: AnonymizationError) -> str:
    """What is wrong with a line, without its number, which says nothing in a list of one."""
    return re.sub(r"^Line 1\b", "Their line", str(error))
