"""Describes the pictures of a folder into files: a text beside each, `metadata.jsonl`, or lines for Identity List.

What was read is kept in the folder until all is done, so that a run that was broken off goes on. Files that are there
already stay as they are unless told otherwise.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..faces.picture_files import SUFFIXES, pictures_below, read_picture
from ..faces.recognizer import Finder
from ..prefix import put_whole
from ..prefix.errors import DescriptionError, MeasurementError, shown
from .calibration import Calibrated
from .describing import ALL, DEFAULTS, CaptionWriter, DescribingSettings, Description, Report, describe, sayable
from .kept import KeptReadings
from .metadata import METADATA_FILE, Metadata
from .names import mixed_folders, name_of
from .people import Check, DescribedPerson, describe_people
from .readers import LooksReader

TEXTS, METADATA, IDENTITIES = "txt", "metadata", "identities"
FORMS = (TEXTS, METADATA, IDENTITIES)
IDENTITIES_FILE = "identities.txt"


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
        trouble: why not all that was read could be kept on the way, a sentence; empty if it could.
    """

    pictures: int
    descriptions: tuple[Description, ...]
    names: tuple[str, ...]
    untouched: int
    files: tuple[Path, ...]
    people: tuple[DescribedPerson, ...] = ()
    nameless: int = 0
    folders: tuple[tuple[str, str], ...] = ()
    trouble: str = ""


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
        """Where it is kept what was read so far: for each folder and form another file, as lists may lie together."""
        mark = hashlib.sha256(os.fsencode(self.folder.resolve()) + b"\0" + self.form.encode()).hexdigest()[:12]
        where = self.lines_file.parent if self.form == IDENTITIES else self.folder
        return where / f".anonymize-faces-described-{mark}.jsonl"


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
    metadata = Metadata(job.folder / METADATA_FILE) if job.form == METADATA else None
    todo, findings = _todo(job, paths, names, metadata)
    kept = KeptReadings(job.kept_file, _key(job, reader, settings))
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
        files += metadata.write({names[one.picture]: one.caption for one in told if one.described}, job.overwrite)
    untouched = len(paths) - len(todo) - len(findings)
    result = FolderResult(len(paths), tuple(told), names, untouched, tuple(files), trouble=kept.trouble)
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
    job: FolderJob, paths: Sequence[Path], names: Sequence[str], metadata: Metadata | None
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


def _key(job: FolderJob, reader: LooksReader, settings: DescribingSettings) -> str:
    """What a reading follows from, beside the picture."""
    attributes = [(one.name, one.words) for one in reader.attributes]
    temperatures = reader.temperatures if isinstance(reader, Calibrated) else {}
    parts = [reader.name, attributes, temperatures, dataclasses.asdict(settings), job.form]
    parts.append(os.fsencode(job.folder.resolve()).hex())
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
