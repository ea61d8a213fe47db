"""Reads and writes a folder's `metadata.jsonl`, and keeps in it whatever others wrote there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..prefix import put_whole
from ..prefix.errors import DescriptionError, shown

METADATA_FILE = "metadata.jsonl"
"""What the image folders of Hugging Face's datasets, and diffusers' examples, read: one JSON object a line."""


@dataclass(frozen=True)
class _Line:
    """A line as it stands in the file, and what it says; blank ones say nothing of any picture."""

    text: str
    entry: Mapping[str, Any]

    @property
    def name(self) -> str:
        return str(self.entry["file_name"]) if self.entry else ""


class Metadata:
    """A `metadata.jsonl`.

    Attributes:
        known: the pictures that it speaks of.

    Raises:
        DescriptionError: it is there and no list of captions.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.known = frozenset(line.name for line in self._lines())

    def write(self, captions: Mapping[str, str], overwrite: bool) -> list[Path]:
        """Adds captions by file name; the file is read again before, so that what others wrote meanwhile stays.

        Args:
            overwrite: a picture that it speaks of has its caption changed, and nothing else of its lines; if not,
                these stay as they are.

        Raises:
            DescriptionError: as `Metadata`.
        """
        if not captions:
            return []
        lines = self._lines()
        known = {line.name for line in lines}
        texts = [_changed(line, captions) if overwrite else line.text for line in lines]
        texts += [_written({"file_name": name, "text": text}) for name, text in captions.items() if name not in known]
        put_whole("".join(f"{text}\n" for text in texts).encode(), self._path, overwrite=True)
        return [self._path]

    def _lines(self) -> list[_Line]:
        if not self._path.exists():
            return []
        try:
            text = self._path.read_bytes().decode("utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise DescriptionError(f"'{shown(self._path)}' cannot be read ({error}): move it elsewhere.") from error
        # Other marks that end a line for Python, such as U+2028, may stand in names and captions.
        texts = text.removesuffix("\n").split("\n")
        return [_Line(one, self._entry(one, number)) for number, one in enumerate(texts, start=1)]

    def _entry(self, text: str, number: int) -> Mapping[str, Any]:
        if not text.strip():
            return {}
        try:
            entry = json.loads(text)
        except (ValueError, RecursionError):
            entry = None
        if not isinstance(entry, dict) or "file_name" not in entry:
            raise DescriptionError(
                f"Line {number} of '{shown(self._path)}' is not of a list of captions (a JSON object with file_name):"
                " mend it, or move the file elsewhere."
            )
        return entry


def _changed(line: _Line, captions: Mapping[str, str]) -> str:
    return _written({**line.entry, "text": captions[line.name]}) if line.name in captions else line.text


def _written(entry: Mapping[str, Any]) -> str:
    """A line of JSON, in ASCII where a text in it is no Unicode."""
    text = json.dumps(entry, ensure_ascii=False)
    return text if shown(text) == text else json.dumps(entry)
