"""Describes the pictures of a folder into files: a text beside each, `metadata.jsonl`, or lines for Identity List.

What was read is kept in the folder until all is done, so that a run that was broken off goes on. Files that are there
already stay as they are unless told otherwise.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..faces.picture_files import SUFFIXES, pictures_below, read_picture
from ..faces.recognizer import Finder
from ..prefix import put_whole
from ..prefix.errors import DescriptionError, MeasurementError, shown
from .describing import ALL, DEFAULTS, CaptionWriter, DescribingSettings, Description, Report, describe, sayable
from .names import mixed_folders, name_of
from .people import Check, DescribedPerson, describe_people
from .readers import LooksReader

TEXTS, METADATA, IDENTITIES = "txt", "metadata", "identities"
FORMS = (TEXTS, METADATA, IDENTITIES)
METADATA_FILE = "metadata.jsonl"
"""What the image folders of Hugging Face's datasets, and diffusers' examples, read: one JSON object a line."""

IDENTITIES_FILE = "identities.txt"
KEPT_FILE = ".anonymize-faces-described.jsonl"
"""What was read so far, one picture a line after one that tells with what; removed when all is done."""


@dataclass(frozen=True)
class FolderResult:
    """What came of a folder.

    Attributes:
        pictures: how many there are.
        descriptions: of the pictures that were looked at, by their numbers in `names`.
        names: paths below the folder, with "/" between.
        untouched: pictures that had a description already.
        files: what was written.
        people: of the form "identities" alone, as are
        nameless: pictures that are left out because nobody can be told from their paths, how many;
        folders: see `names.mixed_folders`.
    """

    pictures: int
    descriptions: tuple[Description, ...]
    names: tuple[str, ...]
    untouched: int
    files: tuple[Path, ...]
    people: tuple[DescribedPerson, ...] = ()
    nameless: int = 0
    folders: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class FolderJob:
    """What is to become of a folder.

    Attributes:
        folder: the pictures, in it and below.
        form: one of `FORMS`.
        output: the file of "identities"; None for one in the folder.
        overwrite: describe pictures anew that have a description.
        same, check: see `people.describe_people`.
    """

    folder: Path
    form: str = TEXTS
    output: Path | None = None
    overwrite: bool = False
    same: Callable[[str], str] = str.casefold
    check: Check = field(default=lambda line: ())

    @property
    def lines_file(self) -> Path:
        """Where the form "identities" goes."""
        return self.output or self.folder / IDENTITIES_FILE

    @property
    def kept_file(self) -> Path:
        """Where it is kept what was read so far."""
        return (self.lines_file.parent if self.form == IDENTITIES else self.folder) / KEPT_FILE


def require_startable(job: FolderJob, settings: DescribingSettings = DEFAULTS) -> None:
    """Raises `DescriptionError` where it can be told before anything is loaded that nothing will come of a job."""
    if not job.folder.is_dir():
        raise DescriptionError(f"There is no folder '{shown(job.folder)}': name one with pictures.")
    if settings.several == ALL:
        raise DescriptionError(
            "A file of a folder describes one face of a picture: choose 'largest' or 'skip' for pictures with several."
        )
    if job.form != IDENTITIES and job.output is not None:
        raise DescriptionError(f"The form '{job.form}' goes into the folder of the pictures: name no output.")
    if job.form == IDENTITIES and job.lines_file.exists() and not job.overwrite:
        raise DescriptionError(
            f"'{shown(job.lines_file)}' is there already: name another output, or say that it may be overwritten."
        )


def describe_folder(
    job: FolderJob,
    finder: Finder,
    reader: LooksReader,
    settings: DescribingSettings = DEFAULTS,
    report: Report = lambda done, total: None,
) -> FolderResult:
    """Describes what is in a folder and writes the files.

    Pictures that cannot be described (no face, damaged, no picture) have a finding; they stop nothing.

    Args:
        report: called with pictures done and all that are to do; may raise to stop, and the next run goes on.

    Raises:
        DescriptionError: as `require_startable`; there are no pictures; a file of before cannot be read; or nobody
            could be described for a list of people.
        MeasurementError: the finder cannot run.
        OSError: a file cannot be written.
    """
    require_startable(job, settings)
    paths = pictures_below(job.folder)
    if not paths:
        raise DescriptionError(
            f"There are no pictures in '{shown(job.folder)}': put some there ({', '.join(SUFFIXES)})."
        )
    names = tuple(path.relative_to(job.folder).as_posix() for path in paths)
    metadata = _Metadata(job.folder / METADATA_FILE) if job.form == METADATA else None
    todo, findings = _todo(job, paths, names, metadata)
    kept = _Kept(job.kept_file, _key(job, reader, settings))
    writer = CaptionWriter(sayable(reader), settings)
    told = [*findings, *kept.descriptions(todo, names, paths, writer)]
    done = {one.picture for one in told}
    files: list[Path] = []

    def take(one: Description) -> None:
        if job.form == TEXTS and one.described:
            files.append(_write_text(paths[one.picture], one.caption, job.overwrite))

    for one in told:
        take(one)
    waiting = [number for number in todo if number not in done]
    failed: list[Description] = []
    total, before = len(todo), len(todo) - len(waiting)
    with kept:
        pictures = read_pictures(waiting, paths, failed)
        for one in describe(pictures, finder, reader, settings, lambda n, _: report(before + n, total), total):
            kept.add(names[one.picture], paths[one.picture], one)
            take(one)
            told.append(dataclasses.replace(one, crop=None))  # A folder's faces together would fill the memory.
    told += failed
    report(total, total)
    told.sort(key=lambda one: one.picture)
    if metadata is not None:
        files += metadata.write((names[one.picture], one.caption) for one in told if one.described)
    result = FolderResult(len(paths), tuple(told), names, len(paths) - len(todo) - len(findings), tuple(files))
    if job.form == IDENTITIES:
        result = _with_people(result, job, writer, settings)
    kept.remove()
    return result


def _with_people(
    result: FolderResult, job: FolderJob, writer: CaptionWriter, settings: DescribingSettings
) -> FolderResult:
    """The result with whom the pictures show, after their list is written."""
    pairs = [(name_of(result.names[one.picture]), one) for one in result.descriptions]
    people = tuple(describe_people(pairs, writer.attributes, settings, job.same, job.check))
    lines = [person.line for person in people if person.description and not person.finding]
    if not lines:
        findings = [(person.name, person.finding) for person in people if person.finding]
        findings += [(shown(result.names[one.picture]), one.finding) for one in result.descriptions if one.finding]
        name, finding = findings[0]
        raise DescriptionError(
            f"Nobody could be described; {name}: {finding.rstrip('.')}. Call each file by the person whose face it"
            " shows, as in 'Ada Example 2.jpg'."
        )
    job.lines_file.parent.mkdir(parents=True, exist_ok=True)
    put_whole("".join(f"{line}\n" for line in lines).encode(), job.lines_file, overwrite=job.overwrite)
    nameless = sum(not name for name, _ in pairs)
    folders = tuple(mixed_folders(result.names, job.same))
    return dataclasses.replace(result, files=(job.lines_file,), people=people, nameless=nameless, folders=folders)


def read_pictures(
    numbers: Sequence[int], paths: Sequence[Path], failed: list[Description]
) -> Iterator[tuple[int, np.ndarray]]:
    """Some pictures with their numbers, each read when it is asked for.

    Args:
        failed: of those that cannot be read, what is the matter is added to it.
    """
    for number in numbers:
        try:
            picture = read_picture(paths[number])
        except MeasurementError as error:
            failed.append(Description(number, str(error)))
            continue
        yield number, picture


def _todo(
    job: FolderJob, paths: Sequence[Path], names: Sequence[str], metadata: _Metadata | None
) -> tuple[list[int], list[Description]]:
    """Numbers of the pictures to describe, and findings about those that cannot have a file of their own."""
    todo, findings = [], []
    first: dict[Path, str] = {}
    for number, (path, name) in enumerate(zip(paths, names, strict=True)):
        text = path.with_suffix(".txt")
        if fault := _fault_of(name, job.form):
            findings.append(Description(number, fault))
            continue
        if job.form == TEXTS and text in first:
            other = first[text]
            findings.append(Description(number, f"its text would have the name of that of '{other}': rename one"))
            continue
        first[text] = name
        is_there = text.exists() if metadata is None else name in metadata.known
        if job.overwrite or job.form == IDENTITIES or not is_there:
            todo.append(number)
    return todo, findings


def _fault_of(name: str, form: str) -> str:
    """Why a picture cannot be called by its path in a list; empty if it can."""
    if form == METADATA and shown(name) != name:
        return "a list cannot hold this name, which is no UTF-8: rename it"
    if form == IDENTITIES and not name_of(name):
        return "whom it shows cannot be told from its name: call it by the person"
    return ""


def _write_text(picture: Path, caption: str, overwrite: bool) -> Path:
    path = picture.with_suffix(".txt")
    if overwrite or not path.exists():
        put_whole(f"{caption}\n".encode(), path, overwrite=overwrite)
    return path


class _Metadata:
    """A `metadata.jsonl`: what it says of other pictures, and of those that stay as they are, is kept line for line."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines: dict[str, str] = {}
        if not path.exists():
            return
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise DescriptionError(f"'{shown(path)}' cannot be read ({error}): move it elsewhere.") from error
        for number, line in enumerate(lines, start=1):
            if line.strip():
                self._lines[self._name(line, number)] = line

    @property
    def known(self) -> set[str]:
        """The pictures that it speaks of."""
        return set(self._lines)

    def write(self, captions: Iterator[tuple[str, str]]) -> list[Path]:
        """Adds captions, or puts them in the place of those of before."""
        new = {name: json.dumps({"file_name": name, "text": text}, ensure_ascii=False) for name, text in captions}
        if not new:
            return []
        lines = {**self._lines, **new}
        put_whole("".join(f"{line}\n" for line in lines.values()).encode(), self._path, overwrite=True)
        return [self._path]

    def _name(self, line: str, number: int) -> str:
        try:
            name = json.loads(line)["file_name"]
        except (ValueError, TypeError, KeyError) as error:
            raise DescriptionError(
                f"Line {number} of '{shown(self._path)}' is not of a list of captions (a JSON object with file_name):"
                " mend it, or move the file elsewhere."
            ) from error
        return str(name)


def _key(job: FolderJob, reader: LooksReader, settings: DescribingSettings) -> str:
    """What a reading follows from, beside the picture."""
    attributes = [(one.name, one.words) for one in reader.attributes]
    parts = [reader.name, attributes, dataclasses.asdict(settings), job.form]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


class _Kept:
    """What was read so far, in a file that is added to line by line; a last line that is not whole counts as none."""

    def __init__(self, path: Path, key: str) -> None:
        self._path, self._key = path, key
        self._entries: dict[str, dict[str, Any]] = {}
        self._file: Any = None
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            head, *lines = path.read_text(encoding="utf-8").splitlines()
            if json.loads(head)["key"] == key:
                for line in lines:
                    entry = json.loads(line)
                    self._entries[entry["file"]] = entry

    def descriptions(
        self, numbers: Sequence[int], names: Sequence[str], paths: Sequence[Path], writer: CaptionWriter
    ) -> Iterator[Description]:
        """What is known already of pictures that are still as they were."""
        for number in numbers:
            entry = self._entries.get(names[number])
            if entry is None or entry["is"] != _state(paths[number]):
                continue
            read = {name: np.array(row) for name, row in entry["probabilities"].items()}
            answers = writer.answers(read) if entry["caption"] else ()
            yield Description(number, entry["finding"], entry["caption"], None, answers, read)

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

    def __enter__(self) -> _Kept:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._path.open("w", encoding="utf-8")
        self._file.write(json.dumps({"key": self._key}) + "\n")
        for entry in self._entries.values():
            self._file.write(json.dumps(entry) + "\n")
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def _state(path: Path) -> list[int]:
    """What changes when a file is replaced."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]
