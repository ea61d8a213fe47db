"""Writes the files of an evaluation, each whole or not at all."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ...prefix import MeasurementError, put_whole
from ..results import Evaluation, to_csv, to_json
from .page import to_html


@dataclass(frozen=True)
class Files:
    """Where an evaluation lies."""

    json: Path
    csv: Path
    html: Path


def write_files(evaluation: Evaluation, folder: Path) -> Files:
    """Writes `evaluation.json`, `.csv` and `.html`; makes the folder if need be, replaces what was there.

    Raises:
        MeasurementError: the folder cannot be written to.
    """
    files = Files(*(folder / f"evaluation.{kind}" for kind in ("json", "csv", "html")))
    texts = ((files.json, to_json), (files.csv, to_csv), (files.html, to_html))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, write in texts:
            put_whole(write(evaluation).encode(), path, overwrite=True)
    except OSError as error:
        raise MeasurementError(
            f"The results could not be saved in '{folder}' ({error.strerror or error}): make it a folder that has room"
            " and can be written to, and start again; what was drawn is kept."
        ) from error
    return files
