"""Reads whom a prefix is learned on: people by name, with the looks that may stay.

A list is never guessed at: a line that may mean several things is refused by its number, with what to write instead.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from ...prefix.errors import IdentityError
from .identity_table import NAMES, Row, columns_of, rows_of
from .list_text import entries, normalized, sameness
from .unclear_lines import (
    COLON,
    EXAMPLE,
    fault_of_line,
    fault_of_looks,
    fault_of_name,
    fault_of_separator,
    numbers_of,
)

ANYBODY = "a person"
"""The neutral words for somebody whose looks are not described."""

MOST_NAME, MOST_DESCRIPTION = 200, 1000
"""Characters of a name and of a description, at most."""

_NOTE = re.compile(r"(?:^|\s)#(?=\s|$)")
_MAYBE_NOTE = re.compile(r"\s#(?!\d)")


@dataclass(frozen=True)
class Identity:
    """A named person and the anonymous description of their looks."""

    name: str
    description: str = ANYBODY

    @property
    def described(self) -> bool:
        """Whether anything is said of their looks."""
        return self.description != ANYBODY

    @property
    def key(self) -> str:
        """What tells people apart: equal for names that differ in case, spaces or composed accents alone."""
        return sameness(self.name)


def parse_identities(text: str) -> tuple[Identity, ...]:
    """Reads one identity a line: `Name: description`, or a name alone, described as "a person"; or a table.

    Blank lines and notes are skipped: lines that begin with `#`, and what follows a `#` that stands between spaces.
    Line ends of any system and a byte order mark do no harm. Text is normalized (`list_text`). A list whose first line
    names columns, `name` and `description`, between commas, semicolons or tabs, is read as that table.

    Args:
        text: the lines.

    Raises:
        IdentityError: a line is unclear, has no name, a colon without a description, a description with the name in it,
            or a name that an earlier line has (see `Identity.key`); or no line names anybody. The text names the lines
            by their numbers, from 1.
    """
    identities: list[Identity] = []
    line_of: dict[str, int] = {}
    for number, name, description in _rows(normalized(text)):
        identity = _identity(name, description, number)
        earlier = line_of.setdefault(identity.key, number)
        if earlier != number:
            raise IdentityError(
                f"Line {number} names {identity.name} again, after line {earlier}: keep one of the two lines."
            )
        identities.append(identity)
    if not identities:
        raise IdentityError(f"The list names nobody: write one person a line, such as '{EXAMPLE}'.")
    return tuple(identities)


def _rows(text: str) -> Iterator[Row]:
    """The people of a list, either kind."""
    lines = entries(text, IdentityError)
    first = next(lines, None)
    if first is None:
        return
    if table := columns_of(first[1]):
        yield from rows_of(text, first[0], *table)
        return
    previous: set[int] = set()
    for place, (number, content) in enumerate((first, *lines), start=1):
        numbers = numbers_of(content)
        if numbers & {place - 1, place, number, *(one + 1 for one in previous)}:
            raise IdentityError(
                f"Line {number} begins with '{content.split()[0]}', as lines of numbered lists do: leave it out, or put"
                " the line elsewhere if it belongs to the name."
            )
        previous = numbers
        yield _parse_line(content, number)


def _parse_line(line: str, number: int) -> Row:
    content = _without_note(line, number)
    _require(fault_of_line(content), number)
    colon = COLON.search(content)
    name = content[: colon.start()].strip() if colon else content
    description = content[colon.end() :].strip() if colon else ANYBODY
    if "\t" in name or "\t" in description:
        raise IdentityError(
            f"Line {number} has columns, and no first line names them: begin the list with a line 'name', tab,"
            f" 'description', or write '{EXAMPLE}'."
        )
    if colon and not name:
        raise IdentityError(f"Line {number} has no name before the colon: write it as '{EXAMPLE}'.")
    if sameness(name) in NAMES:
        raise IdentityError(f"Line {number} is a heading and names nobody: let it begin with #.")
    if colon and COLON.match(description):
        raise IdentityError(f"Line {number} has two colons behind '{_short(name)}': leave one.")
    if colon and not description:
        raise IdentityError(
            f"Line {number} has no description after '{_short(name)}:': describe the looks, or leave out the colon."
        )
    _require(fault_of_separator(name, described=colon is not None), number)
    return number, name, description


def _without_note(line: str, number: int) -> str:
    """The line without the note that may follow."""
    note = _NOTE.search(line)
    content = line[: note.start()].strip() if note else line
    if _MAYBE_NOTE.search(content):
        raise IdentityError(
            f"Line {number} has a '#' that may begin a note: put a space behind it if it does, else remove it."
        )
    if note and not COLON.search(content) and COLON.search(line):
        raise IdentityError(
            f"Line {number} has a '#' before the colon: remove it, or put the note on a line of its own."
        )
    return content


def _require(fault: str | None, number: int) -> None:
    """Raises what is wrong with a line, if anything is."""
    if fault is not None:
        raise IdentityError(f"Line {number} {fault}")


def _identity(name: str, description: str, number: int) -> Identity:
    identity = Identity(" ".join(name.split()), " ".join(description.split()))
    name, description = identity.name, identity.description
    if not identity.key:
        raise IdentityError(f"Line {number} has no name: write it as '{EXAMPLE}'.")
    if not sameness(description):
        raise IdentityError(f"Line {number} has no description of {_short(name)}: describe the looks.")
    for what, told, most in (("name", name, MOST_NAME), ("description", description, MOST_DESCRIPTION)):
        if len(told) > most:
            raise IdentityError(
                f"Line {number} has a {what} of {len(told)} characters ('{_short(told)}'): shorten it to {most}, or see"
                " whether line ends are missing."
            )
    if sameness(name) == "embedding":
        raise IdentityError(f"Line {number} has '{name}' for a name, which is no person's: write '{EXAMPLE}'.")
    _require(fault_of_name(name, identity.described), number)
    _require(fault_of_looks(description, _short(name)), number)
    if _names(description, name):
        raise IdentityError(
            f"Line {number} has the name in the description of {name}: describe the looks without it, or what may stay"
            " would name the person."
        )
    return identity


def _names(description: str, name: str) -> bool:
    """Whether a description holds the name; one word, such as Rose or Brown, only as it is written."""
    if " " in name:
        description, name = sameness(description), sameness(name)
    if name not in description:
        return False
    letter = r"\w" if name.isascii() else "(?!)"  # Other scripts may leave out the spaces between words.
    return re.search(f"(?<!{letter}){re.escape(name)}(?!{letter})", description) is not None


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:40]}…"
