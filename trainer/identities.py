"""Without this module nobody could say whom a prefix is learned on: people by name, with the looks that may stay."""

from __future__ import annotations

from dataclasses import dataclass

from ..prefix.errors import IdentityError

ANYBODY = "a person"
"""The neutral words for somebody whose looks are not described."""

EXAMPLE = "Ada Example: a woman with brown hair and glasses"


@dataclass(frozen=True)
class Identity:
    """A named person and the anonymous description of their looks."""

    name: str
    description: str = ANYBODY


def parse_identities(text: str) -> tuple[Identity, ...]:
    """Reads one identity a line: `Name: description`, or a name alone, described as "a person".

    Blank lines and what follows a `#` are skipped; Windows line ends and a byte order mark do no harm. Spaces
    within a name or description count as one.

    Args:
        text: the lines.

    Raises:
        IdentityError: a line has no name, a colon without a description, or a name that an earlier line has
            (whatever its case); or no line names anybody. The text names the lines by their numbers, from 1.
    """
    identities: list[Identity] = []
    line_of: dict[str, int] = {}
    for number, line in enumerate(text.removeprefix("\ufeff").splitlines(), start=1):
        content = line.split("#", 1)[0].strip()
        if not content:
            continue
        identity = _parse_line(content, number)
        earlier = line_of.setdefault(identity.name.casefold(), number)
        if earlier != number:
            raise IdentityError(
                f"Line {number} names {identity.name} again, after line {earlier}: keep one of the two lines."
            )
        identities.append(identity)
    if not identities:
        raise IdentityError(f"The list names nobody: write one person a line, such as '{EXAMPLE}'.")
    return tuple(identities)


def _parse_line(content: str, number: int) -> Identity:
    name, colon, description = (" ".join(part.split()) for part in content.partition(":"))
    if not name:
        raise IdentityError(f"Line {number} has no name before the colon: write it as '{EXAMPLE}'.")
    if colon and not description:
        raise IdentityError(
            f"Line {number} has no description after '{name}:': describe the looks, or leave out the colon."
        )
    return Identity(name, description) if description else Identity(name)
