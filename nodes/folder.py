"""Without this module the nodes would not agree on where prefix files lie and how they are chosen."""

from __future__ import annotations

import hashlib
from pathlib import Path

import folder_paths

from ..prefix import SUFFIX, PrefixFileError

FOLDER = "anonymization_prefixes"
NONE_YET = "(no prefix files yet)"
"""What a file list shows while there is nothing to choose from."""


def prefix_files() -> list[str]:
    """Prefix files in `models/anonymization_prefixes`, sub folders included, as the artist sees them."""
    return [name for name in folder_paths.get_filename_list(FOLDER) if name.endswith(SUFFIX)]


def file_choices() -> list[str]:
    """Options for a file list: the prefix files, or one that says there are none."""
    return prefix_files() or [NONE_YET]


def find_file(name: str | None) -> Path:
    """Where the chosen prefix file lies.

    Raises:
        PrefixFileError: nothing was chosen, or there is no such file in the folder.
    """
    if not name or name == NONE_YET:
        raise PrefixFileError(
            "There is no prefix to use: learn one with Train Anonymization Prefix, or put a prefix file into"
            " models/anonymization_prefixes and choose it."
        )
    path = folder_paths.get_full_path(FOLDER, name) if name in prefix_files() else None
    if path is None:
        raise PrefixFileError(
            f"There is no prefix file '{name}': put it into models/anonymization_prefixes, or choose another."
        )
    return Path(path)


def save_folder() -> Path:
    """The folder that new prefix files go to."""
    return Path(folder_paths.get_folder_paths(FOLDER)[0])


def fault_of(name: str | None) -> str | None:
    """Why the chosen prefix file cannot be found, in words for the artist; None if it can."""
    try:
        find_file(name)
    except PrefixFileError as error:
        return str(error)
    return None


def content_hash(name: str | None) -> str:
    """Changes when the file of that name holds something else, so that the host does not reuse an old result."""
    try:
        return hashlib.sha256(find_file(name).read_bytes()).hexdigest()
    except (PrefixFileError, OSError):
        return ""
