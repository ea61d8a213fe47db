"""Keeps what was read of a folder's pictures until all is done, so that a run that was broken off goes on."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from ..prefix.errors import shown
from ..prefix.files.storage import put_whole
from .describing import CaptionWriter, Description
from .readers import ROUNDING


class KeptReadings:
    """What was read so far, in a file that is added to line by line; a line that is not whole counts as none.

    Whatever goes wrong with the disk, reading goes on without.

    Args:
        path: one picture a line after one that tells with what it was read; removed when all is done.
        key: what a reading follows from, beside the picture: what was kept under another one counts for nothing.

    Attributes:
        trouble: why no more could be kept, a sentence; empty if all could.
    """

    def __init__(self, path: Path, key: str) -> None:
        self._path, self._key = path, key
        self._entries: dict[str, Mapping[str, Any]] = {}
        self._file: IO[str] | None = None
        self.trouble = ""
        with contextlib.suppress(OSError, UnicodeDecodeError):
            head, *lines = map(_object, path.read_text(encoding="utf-8").split("\n"))
            if head.get("key") == key:
                self._entries = {entry["file"]: entry for entry in lines if _is_whole(entry)}

    def descriptions(
        self, numbers: Sequence[int], names: Sequence[str], paths: Sequence[Path], writer: CaptionWriter
    ) -> Iterator[Description]:
        """What is known already of pictures that are still as they were."""
        sizes = {one.name: len(one.answers) for one in writer.attributes}
        for number in numbers:
            entry = self._entries.get(names[number])
            if entry is None or entry["is"] != _state(paths[number]):
                continue
            read = {name: np.array(row, np.float64) for name, row in entry["probabilities"].items()}
            if not entry["caption"]:
                yield Description(number, entry["finding"])
            elif {name: row.size for name, row in read.items()} == sizes:
                yield Description(number, entry["finding"], entry["caption"], None, writer.answers(read), read)

    def add(self, name: str, path: Path, one: Description) -> None:
        """Keeps one more."""
        if self._file is None:
            return
        entry = {
            "file": name,
            "is": _state(path),
            "finding": one.finding,
            "caption": one.caption,
            "probabilities": {key: row.tolist() for key, row in one.probabilities.items()},
        }
        try:
            self._file.write(json.dumps(entry) + "\n")
            self._file.flush()
        except OSError as error:
            self._give_up(error)

    def remove(self) -> None:
        """All is done."""
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)

    def __enter__(self) -> KeptReadings:
        lines = [json.dumps(entry) for entry in ({"key": self._key}, *self._entries.values())]
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            # Whole or not at all: on a full disk what was kept before would be gone.
            put_whole("".join(f"{line}\n" for line in lines).encode(), self._path, overwrite=True)
            self._file = self._path.open("a", encoding="utf-8")
        except OSError as error:
            self._give_up(error)
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def _close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            with contextlib.suppress(OSError):  # Of what could not be written, and is tried again.
                file.close()

    def _give_up(self, error: OSError) -> None:
        self._close()
        self.trouble = (
            f"What was read could not be kept ({error.strerror or error}): broken off, it would be read again. Make"
            f" room on the disk, or make '{shown(self._path.parent)}' a folder that can be written to."
        )


def _object(line: str) -> Mapping[str, Any]:
    """A line's JSON object; an empty one if it is none."""
    with contextlib.suppress(ValueError, RecursionError):
        found = json.loads(line)
        return found if isinstance(found, dict) else {}
    return {}


def _is_whole(entry: Mapping[str, Any]) -> bool:
    """Whether a line has every field that is read of it."""
    texts = (entry.get(name) for name in ("file", "finding", "caption"))
    rows = entry.get("probabilities")
    if not all(isinstance(text, str) for text in texts) or "is" not in entry or not isinstance(rows, dict):
        return False
    return all(isinstance(row, list) and all(map(_is_probability, row)) for row in rows.values())


def _is_probability(value: object) -> bool:
    return isinstance(value, int | float) and 0 <= value <= 1 + ROUNDING


def _state(path: Path) -> list[int]:
    """What changes when a file is replaced."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]
