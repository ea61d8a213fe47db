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

ANYBODY = "a person"
"""The neutral words for somebody whose looks are not described."""

EXAMPLE = "Ada Example: a woman with brown hair and glasses"

MOST_NAME, MOST_DESCRIPTION = 200, 1000
"""Characters of a name and of a description, at most."""

_COLON = re.compile("[:\uff1a\ufe55\ufe13\u2236\ua789]")
"""The colon of keyboards of any language, and what looks like it."""

_NOTE = re.compile(r"(?:^|\s)#(?=\s|$)")
_MAYBE_NOTE = re.compile(r"\s#(?!\d)")
_LIST_MARKS = (
    r"(?:[-*+\u2022\u2023\u2013\u2014\u00b7]|\(?(?:\d+|[A-Za-z])\)|\d+[.])(?:\s|$)",
    r"\d+[\uff0e\uff09\u3001]",
)
_LIST_MARK = re.compile("|".join(_LIST_MARKS))
_QUOTED = re.compile(
    '(?:["\u201c\u201d\u201e\u00ab][^"\u201c\u201d\u00bb]*["\u201c\u201d\u00bb]'
    "|['\u2018\u2019][^'\u2018\u2019:\uff1a]*['\u2018\u2019])\\s*(?:[,;:\uff1a\t]|$)"
)
_SEPARATORS = (
    r"[,;|=()\\]",
    r"[\uff0c\uff1b\u3001\u060c\u061b\uff08\uff09]",  # the same in other scripts
    r"[-=]*[>\u2190-\u21ff]",  # arrows
    r"-{2,}",
    r"[\u2013\u2014]\s",
    r"\s(?:[\u2013\u2014]|[-/]\s)",
)
_SEPARATOR = re.compile("|".join(_SEPARATORS))
_CLEAR_SEPARATOR = re.compile(r"[;|=]|,(?!\s)")
_MARKUP = {"{": "JSON", "[": "JSON", "<": "markup", "|": "a table in Markdown", "\\": "a path"}


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
    yield from (_parse_line(content, number) for number, content in (first, *lines))


def _parse_line(line: str, number: int) -> Row:
    content = _without_note(line, number)
    _require_line(content, number)
    colon = _COLON.search(content)
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
    if colon and _COLON.match(description):
        raise IdentityError(f"Line {number} has two colons behind '{_short(name)}': leave one.")
    if colon and not description:
        raise IdentityError(
            f"Line {number} has no description after '{_short(name)}:': describe the looks, or leave out the colon."
        )
    if found := (_CLEAR_SEPARATOR if colon else _SEPARATOR).search(name):
        raise IdentityError(
            f"Line {number} has '{found[0].strip()}' in the name: if it parts name and description, write a colon"
            f" there, as in '{EXAMPLE}'{'' if colon else '; else put a colon and the looks behind the name'}."
        )
    return number, name, description


def _without_note(line: str, number: int) -> str:
    """The line without the note that may follow."""
    note = _NOTE.search(line)
    content = line[: note.start()].strip() if note else line
    if _MAYBE_NOTE.search(content):
        raise IdentityError(
            f"Line {number} has a '#' that may begin a note: put a space behind it if it does, else remove it."
        )
    if note and not _COLON.search(content) and _COLON.search(line):
        raise IdentityError(
            f"Line {number} has a '#' before the colon: remove it, or put the note on a line of its own."
        )
    return content


def _require_line(content: str, number: int) -> None:
    """Raises for lines of other formats than a list of people."""
    if content[:1] in _MARKUP:
        raise IdentityError(f"Line {number} looks like {_MARKUP[content[:1]]}, not like a person: write '{EXAMPLE}'.")
    if _QUOTED.match(content) or _COLON.split(content, maxsplit=1)[0].count('"') % 2:
        raise IdentityError(f"Line {number} is in quotation marks: leave them out, as in '{EXAMPLE}'.")
    if _LIST_MARK.match(content):
        raise IdentityError(f"Line {number} begins with a mark of a list: leave it out, as in '{EXAMPLE}'.")


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
    if not any(map(str.isalpha, name)) or "{" in name or "}" in name or sameness(name) == "embedding":
        raise IdentityError(f"Line {number} has '{name}' for a name, which is no person's: write '{EXAMPLE}'.")
    if description[0] in "/\\":
        raise IdentityError(f"Line {number} looks like a path or an address, not like a person: write '{EXAMPLE}'.")
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
