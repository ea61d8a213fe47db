"""Names the folder of prefix files in these hosts."""

from __future__ import annotations

from pathlib import Path

from ...prefix.files import library


def prefix_folders() -> list[Path]:
    """The folders that prefix files lie in."""
    from modules import paths

    return [Path(paths.models_path) / library.FOLDER]


def prefix_choices() -> list[str]:
    """Options for a list of prefix files."""
    return library.choices(prefix_folders())
