"""Finds prefix files in the host's folders, and lists them for the nodes."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import folder_paths

from ...prefix import PrefixFileError, PrefixNameError, read_whole
from ...prefix.files import library
from .inputs import quoted


def prefix_files() -> list[str]:
    """Prefix files in `models/anonymization_prefixes`, sub folders included, as the artist sees them.

    The folders are looked through each time: the host's own list of them lives on when a folder is taken away, and then
    fails. What cannot be chosen because of its name (some would be markup in the menus of older frontends) is left out:
    the tab of prefixes lists it and says to rename it.
    """
    return library.names(prefix_folders())


def file_choices() -> list[str]:
    """Options for a file list: the prefix files, the newest of those saved under one name, or one that says there are
    none."""
    return [*library.newest_choices(found := prefix_files()), *found] or [library.NONE_YET]


def find_file(name: Any) -> Path:
    """Where the chosen prefix file lies, links resolved.

    Args:
        name: whatever a workflow gives.

    Raises:
        PrefixFileError: nothing was chosen, there is no such file, its name or a link leads out of the folder, or what
            was given is no name.
    """
    if name is not None and not isinstance(name, str):
        raise PrefixNameError(f"A prefix is chosen by the name of its file, not by {quoted(name)}: choose it anew.")
    return library.chosen(prefix_folders(), name)


def prefix_folders() -> list[Path]:
    """The folders that prefix files lie in; new ones go to the first."""
    return [Path(folder) for folder in folder_paths.get_folder_paths(library.FOLDER)]


def save_folder() -> Path:
    """The folder that new prefix files go to."""
    return prefix_folders()[0]


def embedding_folder() -> Path:
    """The folder that textual inversions go to, where the host looks for `embedding:name`."""
    return embedding_folders()[0]


def embedding_folders() -> list[Path]:
    """The folders where the host looks for `embedding:name`."""
    return [Path(folder) for folder in folder_paths.get_folder_paths("embeddings")]


def require_no_embeddings_in(folder: Path) -> None:
    """Raises `PrefixFileError` if the host would find what is put into that folder as `embedding:name`."""
    for other in embedding_folders():
        found = Path(other).resolve()
        if folder.resolve().is_relative_to(found) or found.is_relative_to(folder.resolve()):
            raise PrefixFileError(
                "This server anonymizes every prompt, and its prefix files lie where it looks for embeddings, so that"
                " nobody but its operator can add any: give them a folder of their own in extra_model_paths.yaml."
            )


def work_folder(kind: str) -> Path:
    """Where unfinished work of a kind lies: it outlives the server and is not served over the network."""
    return Path(folder_paths.get_user_directory()) / "__anonymize_faces" / kind


def fault_of(name: Any) -> str | None:
    """Why the chosen prefix file cannot be found, in words for the artist; None if it can."""
    try:
        find_file(name)
    except PrefixFileError as error:
        return str(error)
    return None


def content_hash(name: Any) -> str:
    """Changes when the file of that name holds something else, so that the host does not reuse an old result.

    A name that comes by a wire is not told before the node runs (None): then whatever changes in the folders counts.
    """
    try:
        if name is None:
            return library.state(prefix_folders())
        return hashlib.sha256(read_whole(find_file(name))).hexdigest()
    except PrefixFileError:
        return ""
