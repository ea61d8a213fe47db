"""Checks names of prefix files: that they stay in their folder, and that every system can open them."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from ..errors import PrefixNameError, shown
from .storage import SUFFIX

_FORBIDDEN = re.compile(r'[\x00-\x1f\x7f<>:"|?*]')
_RESERVED = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?", re.IGNORECASE)
_MOST_BYTES = 200
_MOST_PARTS = 8


_GOOD = "letters, digits, spaces, '-' and '_', with '/' between sub folders"


def file_path(name: str, suffix: str = SUFFIX) -> PurePosixPath:
    """The path, inside a folder, of the file that an artist calls `name` when saving.

    Sub folders may be given with either slash; the suffix may be given or left out. The same names are good on Linux,
    macOS and Windows, so that prefixes can be handed on.

    Raises:
        PrefixNameError: empty, absolute, leading out of the folder, hidden, too long or too deep, or with a part that
            some system cannot store.
    """
    path = path_inside(name.strip().removesuffix(suffix))
    return path.with_name(path.name + suffix)


def path_inside(name: str) -> PurePosixPath:
    """The path, inside a folder, of the existing file of that name; sub folders with either slash.

    Raises:
        PrefixNameError: as `file_path`.
    """
    if not isinstance(name, str):
        raise PrefixNameError(f"A prefix file is chosen by its name, not by {type(name).__name__}: give it as text.")
    parts = name.replace("\\", "/").split("/")
    faults: list[str | None] = ["it leads too deep"] if len(parts) > _MOST_PARTS else [_fault(part) for part in parts]
    for fault in faults:
        if fault:
            raise PrefixNameError(f"{name!r} cannot name a prefix file because {fault}: use {_GOOD}.")
    return PurePosixPath(*parts)


def name_fault(name: str) -> str | None:
    """Why a file that is there has a name that not every system, page and workflow can take; None if they can.

    Args:
        name: its path below its root, with '/'.
    """
    if "\\" in name:
        return "it contains a backslash"
    parts = name.split("/")
    return "it leads too deep" if len(parts) > _MOST_PARTS else next(filter(None, map(_fault, parts)), None)


def require_good_name(name: str) -> None:
    """Raises `PrefixNameError`, which says to rename the file, if there is a `name_fault`."""
    fault = name_fault(name)
    if fault is not None:
        raise PrefixNameError(
            f"'{shown(name)}' cannot be used because of its name: {fault}. Rename it, or move it: use {_GOOD}."
        )


def _fault(part: str) -> str | None:
    if not part:
        return "a part of it is empty"
    if part.startswith("."):
        return "a part of it begins with a dot"
    if part != part.strip() or part.endswith("."):
        return "a part of it begins or ends with a space or ends with a dot"
    if _FORBIDDEN.search(part):
        return "it contains a character that is not allowed in file names"
    if _RESERVED.fullmatch(part):
        return f"Windows keeps the name {part!r} for itself"
    try:
        if len(part.encode()) > _MOST_BYTES:
            return "it is too long"
    except UnicodeEncodeError:
        return "it contains a character that is not allowed in file names"
    return None
