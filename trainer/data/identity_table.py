"""Reads people from a table: CSV or TSV whose first line names its columns, as spreadsheets save it."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence

from ...prefix.errors import IdentityError
from .list_text import is_note, numbered_lines, require_plain

NAMES = frozenset({"name", "names", "person", "people", "identity", "identities"})
DESCRIPTIONS = frozenset({"description", "descriptions", "looks", "appearance"})
SEPARATORS = "\t,;"

Row = tuple[int, str, str]
"""The number of a line, a name and a description; either may be empty."""


def columns_of(line: str) -> tuple[str, list[str]] | None:
    """The separator and the columns that a line names, if it is the first of a table; None if it is none.

    Args:
        line: the first line of a list that is no note.
    """
    for separator in SEPARATORS:
        try:
            cells = next(csv.reader([line], delimiter=separator, strict=True), [])
        except csv.Error:
            continue
        heads = [cell.strip().casefold() for cell in cells]
        if len(heads) > 1 and (NAMES & set(heads) or DESCRIPTIONS & set(heads)):
            return separator, heads
    return None


def rows_of(text: str, first: int, separator: str, heads: Sequence[str]) -> Iterator[Row]:
    """The people of a table; other columns than those of name and description are left out.

    Args:
        text: the whole list, normalized.
        first: the number of the line that names the columns.
        separator, heads: as `columns_of` found them.

    Raises:
        IdentityError: a column is missing or named twice, a row has too few or too many cells, or a quotation mark is
            not closed. The text names the lines.
    """
    name, description = _column(heads, NAMES, "name", first), _column(heads, DESCRIPTIONS, "description", first)
    lines = [line for _, line in numbered_lines(text)][first:]
    reader = csv.reader((f"{line}\n" for line in lines), delimiter=separator, strict=True)
    while True:
        number = first + reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise IdentityError(
                f"Line {number} is no row of a table ({error}): put text that holds the separator or a quotation mark"
                ' in quotation marks, and double those within ("").'
            ) from error
        if not "".join(row).strip() or is_note(row[0].strip()):
            continue
        if len(row) != len(heads):
            raise IdentityError(
                f"Line {number} has {len(row)} cells and the first line names {len(heads)} columns: put text that holds"
                " the separator in quotation marks."
            )
        yield number, _cell(row[name], number), _cell(row[description], number)


def _column(heads: Sequence[str], known: frozenset[str], wanted: str, first: int) -> int:
    found = [index for index, head in enumerate(heads) if head in known]
    if len(found) == 1:
        return found[0]
    fault = "twice" if found else "not at all"
    raise IdentityError(
        f"Line {first} names the columns of a table, '{wanted}' {fault}: name one column 'name' and one 'description'."
    )


def _cell(text: str, number: int) -> str:
    content = " ".join(text.split())
    require_plain(content, number, IdentityError)
    return content
