"""Keeps what was read of a folder's pictures until all is done, so that a run that was broken off goes on."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .describing import CaptionWriter, Description
from .readers import ROUNDING


class KeptReadings:
    """What was read so far, in a file that is added to line by line; a line that is not whole counts as none.

    Args:
        path: one picture a line after one that tells with what it was read; removed when all is done.
        key: what a reading follows from, beside the picture: what was kept under another one counts for nothing.
    """

    def __init__(self, path: Path, key: str) -> None:
        self._path, self._key = path, key
        self._entries: dict[str, Mapping[str, Any]] = {}
        self._file: Any = None
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
        entry = {
            "file": name,
            "is": _state(path),
            "finding": one.finding,
            "caption": one.caption,
            "probabilities": {key: row.tolist() for key, row in one.probabilities.items()},
        }
        self._file.write(json.dumps(entry) + "\n")
        self._file.flush()

    def remove(self) -> None:
        """All is done."""
        self._path.unlink(missing_ok=True)

    def __enter__(self) -> KeptReadings:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._path.open("w", encoding="utf-8")
        self._file.write(json.dumps({"key": self._key}) + "\n")
        for entry in self._entries.values():
            self._file.write(json.dumps(entry) + "\n")
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


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
