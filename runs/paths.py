"""Reads paths off a command line, and says before work starts whether what comes of it can be written there."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from ..prefix.errors import TrainingError, shown


def path_of(text: str) -> Path:
    """A path as it was typed; `~` is the user's folder, where the shell has not put that in already.

    Raises:
        argparse.ArgumentTypeError: it is empty, or names the folder of a user who is not there.
    """
    if not text.strip() or "\0" in text:
        raise argparse.ArgumentTypeError("a path cannot be empty")
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise argparse.ArgumentTypeError(f"there is no user's folder '{shown(text)}'") from error


def require_writable_file(path: Path, what: str) -> None:
    """Raises `TrainingError` if a file cannot be written there; its folder may still have to be made.

    Args:
        what: what the error calls it, such as "--output".
    """
    if path.is_dir():
        raise TrainingError(f"{what} is the folder '{shown(path)}': name a file in it.")
    if path.exists() and not os.access(path, os.W_OK):
        raise TrainingError(f"{what} '{shown(path)}' cannot be written over: see to its permissions, or name another.")
    require_writable_folder(path.parent, what)


def require_writable_folder(path: Path, what: str) -> None:
    """Raises `TrainingError` if files cannot be written into a folder, which may still have to be made."""
    there = next(folder for folder in (path, *path.absolute().parents) if os.path.lexists(folder))
    if not there.is_dir():
        raise TrainingError(f"{what} cannot lie in '{shown(there)}', which is no folder: name another place.")
    if not os.access(there, os.W_OK | os.X_OK):
        raise TrainingError(f"{what} cannot be written to '{shown(there)}': see to its permissions, or name another.")
