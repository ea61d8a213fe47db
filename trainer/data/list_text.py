"""Reads the text of lists that people write, one entry a line: from files, in one form of Unicode, line by line.

Names that look alike must be alike: text is brought to Unicode's form NFC, characters that nobody sees are taken out,
and every kind of space is the one of the keyboard. What a line separator or a control character within a line was meant
to be cannot be known, and is refused.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path

from ...prefix.errors import ListError

MOST_BYTES = 64 << 20
"""Of a file; a hundred thousand people take some 6 MB."""

_UTF_8_MARK = b"\xef\xbb\xbf"
_MARKS = (
    ("utf-32", b"\xff\xfe\0\0"),
    ("utf-32", b"\0\0\xfe\xff"),
    ("utf-16", b"\xff\xfe"),
    ("utf-16", b"\xfe\xff"),
)
"""Byte order marks with what they stand for; UTF-32's begins with UTF-16's."""

_UNSEEN = frozenset("\0\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u3164\uffa0")
"""What nobody sees either, although Unicode does not call it a format character (fillers, joiners of accents, NUL)."""

_JOINERS = re.compile("[\u200c\u200d]")
_NO_TEXT = (
    "\x01-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\ufffd\ud800-\udfff"
    "\ue000-\uf8ff\U000f0000-\U0010ffff"  # for private use, the last noncharacters with them
    f"\ufdd0-\ufdef{''.join(chr((plane << 16) + last) for plane in range(15) for last in (0xFFFE, 0xFFFF))}"
)
"""Controls, line separators, and what Unicode says will never be a character or nobody can know the meaning of."""

_FORBIDDEN = re.compile(f"[{_NO_TEXT}]")
_LINE_ENDS = re.compile("\r\n|\n|\r")
_LAST_MARK = re.compile("\x1a\\s*\\Z")
_BETWEEN_IDEOGRAPHS = re.compile("(?<=[\u2e80-\ud7ff\U00020000-\U0003ffff]) (?=[\u2e80-\ud7ff\U00020000-\U0003ffff])")


def text_of_file(path: Path) -> str:
    """The text of a file: UTF-8, or what its byte order mark says (UTF-16, UTF-32).

    Raises:
        ListError: it cannot be read, is too large for a list, or is no text; the line is named.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ListError(f"'{path}' cannot be read ({reason}): name a text file.") from error
    if len(content) > MOST_BYTES:
        raise ListError(f"'{path}' is larger than {MOST_BYTES >> 20} MiB: name a text file with a list.")
    content = content.removeprefix(_UTF_8_MARK)
    encoding = next((name for name, mark in _MARKS if content.startswith(mark)), "utf-8")
    zero = content.find(b"\0")
    if encoding == "utf-8" and zero >= 0:
        raise ListError(
            f"Line {_line_at(content[:zero])} of '{path}' holds a zero byte, as files in UTF-16 do: save the file as"
            " text in UTF-8."
        )
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        before = content[: error.start].decode(encoding, "ignore").encode()
        raise ListError(
            f"Line {_line_at(before)} of '{path}' cannot be read as {encoding.upper()}: save the file as text in UTF-8."
        ) from error


def normalized(text: str) -> str:
    """Text in form NFC, without characters that nobody sees, with one kind of space; tabs and line ends stay.

    Joiners stay between characters of scripts that need them (Arabic, Indic, emoji).
    """
    text = _LAST_MARK.sub("", text)
    if text.isascii():
        return text.replace("\0", "")
    text = unicodedata.normalize("NFC", _JOINERS.sub(_needed_joiner, text))
    return "".join(map(_seen, text))


def numbered_lines(text: str) -> list[tuple[int, str]]:
    """The lines of a normalized text with their numbers from 1, as they are."""
    return list(enumerate(_LINE_ENDS.split(text), start=1))


def entries(text: str, error: Callable[[str], ListError] = ListError) -> Iterator[tuple[int, str]]:
    """The lines of a text that hold something, normalized, with their numbers; notes, lines with a `#` first, do not.

    Raises:
        ListError: a line holds a control character or a line separator within, made by `error`.
    """
    for number, line in numbered_lines(normalized(text)):
        content = line.strip()
        if content and not is_note(content):
            require_plain(content, number, error)
            yield number, content


def is_note(content: str) -> bool:
    """Whether a line is a note: it begins with `#`, as keyboards of any language have it."""
    return content[:1] in ("#", "\uff03", "\ufe5f")


def require_plain(content: str, number: int, error: Callable[[str], ListError] = ListError) -> None:
    """Raises `error` if there is something in a line that is no part of a text, or that may end it."""
    found = _FORBIDDEN.search(content)
    if found is None:
        return
    if found[0] == "\ufffd":
        raise error(
            f"Line {number} holds a character that was lost when the text was saved (U+FFFD): write it anew, and save"
            " the list as UTF-8."
        )
    if found[0] in "\n\x0b\x0c\x85\u2028\u2029":
        raise error(
            f"Line {number} holds another line separator within ({_code(found[0])}): put a line end there, or a space."
        )
    raise error(f"Line {number} holds a character that is no text ({_code(found[0])}): remove it.")


def sameness(text: str) -> str:
    """What two texts have in common that differ in case, spaces, composed accents, width or unseen characters alone."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", "".join(map(_compared, text))).casefold()
        text = unicodedata.normalize("NFKC", text)
        text = _BETWEEN_IDEOGRAPHS.sub("", " ".join(text.split()))
    return " ".join(text.casefold().split())


def _line_at(before: bytes) -> int:
    """The number of the line that follows these bytes."""
    return len(_LINE_ENDS.split(before.decode("utf-8", "replace")))


def _code(one: str) -> str:
    """A character as Unicode writes it, such as U+2028."""
    return f"U+{int.from_bytes(one.encode('utf-32-be', 'surrogatepass'), 'big'):04X}"


def _needed_joiner(found: re.Match[str]) -> str:
    around = (found.string[found.start() - 1 : found.start()], found.string[found.end() : found.end() + 1])
    return found[0] if all(map(_is_joined, around)) else ""


def _is_joined(one: str) -> bool:
    """Whether joiners have a meaning beside this character."""
    return "\u0600" <= one <= "\u1cff" or _is_variation(one) or (one != "" and unicodedata.category(one)[0] == "S")


def _is_variation(one: str) -> bool:
    return "\ufe00" <= one <= "\ufe0f" or "\U000e0100" <= one <= "\U000e01ef"


@functools.cache
def _seen(one: str) -> str:
    """What stays of a character."""
    if unicodedata.category(one) == "Zs" or one == "\u2800":
        return " "
    return "" if one in _UNSEEN or (unicodedata.category(one) == "Cf" and not _JOINERS.match(one)) else one


@functools.cache
def _compared(one: str) -> str:
    """What stays of a character where two texts are compared."""
    return "" if _JOINERS.match(one) or _is_variation(one) else _seen(one)
