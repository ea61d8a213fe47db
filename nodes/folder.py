"""Without this module the nodes would not agree on where prefix files lie and how they are chosen."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import folder_paths

from ..prefix import SUFFIX, TORCH_SUFFIXES, PrefixFileError, path_inside, read_whole

FOLDER = "anonymization_prefixes"
SUFFIXES = (SUFFIX, *TORCH_SUFFIXES)
NONE_YET = "(no prefix files yet)"
"""What a file list shows while there is nothing to choose from."""


def prefix_files() -> list[str]:
    """Prefix files in `models/anonymization_prefixes`, sub folders included, as the artist sees them.

    The folders are looked through each time: the host's own list of them lives on when a folder is taken away, and then
    fails. Hidden files are left out, folders that are links are not entered.
    """
    return sorted({name for root in _roots() for name in _files_below(root)})


def file_choices() -> list[str]:
    """Options for a file list: the prefix files, or one that says there are none."""
    return prefix_files() or [NONE_YET]


def find_file(name: str | None) -> Path:
    """Where the chosen prefix file lies, links resolved.

    Raises:
        PrefixFileError: nothing was chosen, there is no such file, or its name or a link leads out of the folder.
    """
    if not name or name == NONE_YET:
        raise PrefixFileError(
            "There is no prefix to use: learn one with Train Anonymization Prefix, or put a prefix file into"
            " models/anonymization_prefixes and choose it."
        )
    inside = path_inside(name)
    for root in _roots():
        if (root / inside).is_file():
            return _resolved(root / inside)
    raise PrefixFileError(
        f"There is no prefix file '{name}': put it into models/anonymization_prefixes, or choose another."
    )


def save_folder() -> Path:
    """The folder that new prefix files go to."""
    return _roots()[0]


def embedding_folder() -> Path:
    """The folder that textual inversions go to, where the host looks for `embedding:name`."""
    return Path(folder_paths.get_folder_paths("embeddings")[0])


def work_folder(kind: str) -> Path:
    """Where unfinished work of a kind lies: it outlives the server and is not served over the network."""
    return Path(folder_paths.get_user_directory()) / "__anonymize_faces" / kind


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
        return hashlib.sha256(read_whole(find_file(name))).hexdigest()
    except PrefixFileError:
        return ""


def _roots() -> list[Path]:
    return [Path(folder) for folder in folder_paths.get_folder_paths(FOLDER)]


def _files_below(root: Path) -> list[str]:
    names = []
    for folder, subfolders, files in os.walk(root):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        for name in files:
            if name.lower().endswith(SUFFIXES) and not name.startswith("."):
                names.append((Path(folder) / name).relative_to(root).as_posix())
    return names


def _resolved(path: Path) -> Path:
    resolved = path.resolve()
    if not any(resolved.is_relative_to(root.resolve()) for root in _roots()):
        raise PrefixFileError(
            f"'{path.name}' is a link, or lies in one, that leads out of models/anonymization_prefixes: put the file"
            " itself there, or name its folder in extra_model_paths.yaml."
        )
    return resolved
