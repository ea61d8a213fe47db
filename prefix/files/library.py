"""Lists, renames, takes in and removes the prefix files of a host's folders.

The *roots* are the folders that prefix files lie in, the first of them for new ones; a file is called by its path below
its root, with '/'. Of two files with one name the first root's counts. Nothing outside the roots is read or written.
Changes are made one at a time, and each of them wholly or not at all.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from ..errors import PrefixFileError, PrefixFileExistsError, PrefixFileMissingError, PrefixNameError, shown
from ..provenance import family_title, fits_family
from ..value import PrefixRecord
from .naming import file_path, name_fault, path_inside, require_good_name
from .prefix_file import SUFFIXES, load_prefix, parse_prefix, prefix_bytes
from .preview import load_preview, move_preview, preview_version, remove_preview
from .storage import SUFFIX, move_whole, read_whole, write_whole

FOLDER = "anonymization_prefixes"
"""Where prefix files lie below a host's `models`."""

NONE_YET = "(no prefix files yet)"
"""What a list of prefix files shows while there is nothing to choose from."""

NOT_CHOSEN = "(choose a prefix)"
"""What stands for a prefix in a workflow that was protected where none fits (web/prefixes/choice.js)."""

NEWEST = " (newest)"
"""What stands behind a name, in place of a suffix, for the newest of the files that were saved under that name: the
first is called so, the others have a number (`people`, `people_2`, …)."""

OF_THE_EXAMPLES = "demo people"
"""What the example workflows save, and choose the newest of."""

_NUMBERED = re.compile(r"_\d+$")

_NOTES_TOLD = 300
"""Characters of a record's notes in a list."""

_DEEPEST = 64
"""Sub folders inside of each other that are looked into."""

_CHANGES = threading.Lock()


@dataclass(frozen=True)
class Entry:
    """A prefix file as a list shows it.

    Attributes:
        name: its path below its root.
        size: in bytes; 0 where it cannot be told.
        modified: ISO 8601, UTC; empty where it cannot be told.
        fault: why it cannot be used, in words for the artist; None if it can.
        record: how the prefix was learned; None if it cannot be used.
        widths: width of each encoder's vectors.
        length: number of vectors.
        picture: changes when the picture beside the file does; empty if there is none. See `preview`.
    """

    name: str
    size: int
    modified: str
    fault: str | None
    record: PrefixRecord | None
    widths: Mapping[str, int]
    length: int
    picture: str = ""

    def summary(self, family: str | None = None) -> dict[str, Any]:
        """JSON: what there is to say in one line; `fits` says whether it serves that family, if one is given."""
        record = self.record or PrefixRecord(family="", fingerprint="")
        fits = self.record is not None and fits_family(record, self.widths, family or "")
        return {
            "name": self.name,
            "bytes": self.size,
            "modified": self.modified,
            "fault": self.fault,
            "vectors": self.length,
            "encoders": dict(self.widths),
            "family": family_title(record.family),
            "title": record.name,
            "identities": record.identities,
            "steps": record.steps,
            "date": record.date,
            "scores": dict(record.scores),
            "fits": fits if family else None,
            "notes": record.notes[:_NOTES_TOLD],
            "picture": self.picture,
        }

    def details(self, family: str | None = None) -> dict[str, Any]:
        """JSON: the summary and the whole record."""
        record = None if self.record is None else json.loads(self.record.to_json())
        return self.summary(family) | {"record": record}


def names(roots: Sequence[Path]) -> list[str]:
    """Prefix files to choose from, sub folders included. Hidden ones are left out, folders that are links not entered.

    So are files with names that `find` refuses: they are among `entries`, which say what to do, and can be asked about,
    renamed and removed by the names that they have there. Whether a file can be used is for `load_prefix` to say.
    """
    return [name for name, found in sorted(_listed(roots).items()) if name_fault(_name_of(*found)) is None]


def state(roots: Sequence[Path]) -> str:
    """Changes when a prefix file comes, goes, or is written to or replaced, by whomever."""
    told = hashlib.sha256()
    for root in roots:
        for path in sorted(_files_below(root)):
            try:
                status = path.stat()
                parts: tuple[int, ...] = (status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino)
            except OSError:  # It is a link to nowhere, or has gone meanwhile.
                parts = ()
            told.update(repr((str(path), parts)).encode("utf-8", "backslashreplace"))
    return told.hexdigest()


def choices(roots: Sequence[Path]) -> list[str]:
    """Options for a list of prefix files: their names, or one that says there are none."""
    return names(roots) or [NONE_YET]


def newest_choices(names: Sequence[str]) -> list[str]:
    """Options for the newest of those files that were saved under one name, where there are several of it.

    The examples' name is offered with its first file: a list that lacks what is chosen in it is shown as a fault.
    """
    stems = {name.removesuffix(SUFFIX) for name in names if name.endswith(SUFFIX)}
    numbered = {_NUMBERED.sub("", stem) for stem in stems if _NUMBERED.search(stem)}
    return [base + NEWEST for base in sorted((numbered | {OF_THE_EXAMPLES}) & stems)]


def newest(roots: Sequence[Path], name: str) -> str:
    """The file that such an option stands for, the one that was written to last; another name as it is.

    Raises:
        PrefixFileMissingError: there is none.
    """
    if not name.endswith(NEWEST):
        return name
    base = name.removesuffix(NEWEST)
    found = [
        (_modified(path), len(listed), listed)
        for listed, (_, path) in _listed(roots).items()
        if listed.endswith(SUFFIX) and base in (stem := listed.removesuffix(SUFFIX), _NUMBERED.sub("", stem))
    ]
    if not found:
        raise _missing(base + SUFFIX)
    return max(found)[-1]


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def chosen(roots: Sequence[Path], name: str | None) -> Path:
    """Where the file that was chosen from `choices` or `newest_choices` lies, links resolved.

    Raises:
        PrefixFileError: nothing was chosen, or as `find`.
    """
    if not name or name in (NONE_YET, NOT_CHOSEN):
        if not names(roots):
            for found in _listed(roots).values():
                require_good_name(_name_of(*found))
        raise PrefixFileError(
            "There is no prefix to use: learn one with Train Anonymization Prefix, or put a prefix file into"
            f" models/{FOLDER} and choose it."
        )
    return find(roots, newest(roots, name))


def find(roots: Sequence[Path], name: str) -> Path:
    """Where the file lies, links resolved.

    Raises:
        PrefixNameError: its name is not one for every system, so that it must be renamed, or leads out of the roots.
        PrefixFileError: there is none, or a link leads out of the roots.
    """
    try:
        inside = path_inside(name)
    except PrefixNameError:
        _require_renamed(roots, name)
        raise
    with _telling(name):
        for root in roots:
            if (root / inside).is_file():
                return _resolved(roots, root / inside)
    _require_renamed(roots, name)
    raise _missing(name)


def places(roots: Sequence[Path], name: str) -> list[Path]:
    """Where a file of that name would lie, below each root.

    Raises:
        PrefixNameError: it is no name of a file.
    """
    inside = path_inside(name.strip())
    return [root / inside for root in roots]


def entry(roots: Sequence[Path], name: str) -> Entry:
    """The file of that name; one that is there and cannot be used says why.

    Raises:
        PrefixFileError: there is none, its name or a link leads elsewhere, or is not one of a prefix file.
    """
    _require_suffix(name)
    found = _listed(roots).get(name)
    if found is not None:
        return _entry(roots, name, *found)
    path = find(roots, name)  # Another way of writing a name, or one that leads through a link.
    return _entry(roots, path_inside(name).as_posix(), path.parent, path)


def entries(roots: Sequence[Path]) -> list[Entry]:
    """Every prefix file; those that go away meanwhile are left out. What is wrong with one is said of that one."""
    found = []
    for name, (root, path) in sorted(_listed(roots).items()):
        with contextlib.suppress(PrefixFileMissingError):
            found.append(_entry(roots, name, root, path))
    return found


def content(roots: Sequence[Path], name: str) -> bytes:
    """The bytes of the file.

    Raises:
        PrefixFileError: as `entry`, or it is too large for a prefix file.
    """
    _require_suffix(name)
    return read_whole(find(roots, name))


def picture(roots: Sequence[Path], name: str) -> bytes:
    """The picture beside the file, a JPEG; see `preview`.

    Raises:
        PrefixFileError: as `entry`, the file cannot be used, or there is no picture of what is in it.
    """
    _require_suffix(name)
    path = find(roots, name)
    found = load_preview(load_prefix(path), path)
    if not found:
        raise PrefixFileMissingError(f"There is no picture of '{shown(name)}'.")
    return found


def add(roots: Sequence[Path], name: str, data: bytes) -> Entry:
    """Takes in a file that somebody brings: what was checked is written, in our own format. Nothing in it is executed.

    Args:
        roots: the first gets it.
        name: what the file is called, with one of `SUFFIXES`.
        data: its bytes.

    Raises:
        PrefixNameError: it cannot be called that.
        PrefixFileExistsError: there is one of that name.
        PrefixFileError: it is no prefix file, or cannot be written.
    """
    given = path_inside(name.strip())
    target = given.with_suffix(SUFFIX)
    checked = prefix_bytes(parse_prefix(data, given.name))
    with _CHANGES:
        write_whole(checked, _free(roots, roots[0], target))
    return entry(roots, target.as_posix())


def rename(roots: Sequence[Path], name: str, new_name: str) -> Entry:
    """Gives a file another name below its root; its suffix stays.

    Raises:
        PrefixNameError: it cannot be called that.
        PrefixFileExistsError: there is one of that name.
        PrefixFileError: as `entry`, it is a link or lies in one, or the folder cannot be written to.
    """
    with _CHANGES:
        root, path = _own(roots, name)
        target = file_path(new_name, path.suffix)
        renamed = _free(roots, root, target)
        move_whole(path, renamed)
        move_preview(path, renamed)
    return entry(roots, target.as_posix())


def delete(roots: Sequence[Path], name: str) -> None:
    """Removes a file.

    Raises:
        PrefixFileError: as `entry`, it is a link or lies in one, or the folder cannot be written to.
    """
    with _CHANGES, _telling(name):
        path = _own(roots, name)[1]
        path.unlink()
        remove_preview(path)


def _listed(roots: Sequence[Path]) -> dict[str, tuple[Path, Path]]:
    """Root and path of every plain file, by the name it is listed with; the first root's counts."""
    found: dict[str, tuple[Path, Path]] = {}
    for root in roots:
        for path in _files_below(root):
            found.setdefault(shown(_name_of(root, path)), (root, path))
    return found


def _files_below(root: Path) -> Iterator[Path]:
    for folder, subfolders, files in os.walk(root):
        # Nothing can be used from deeper down, and Python walks no deeper than it can call itself.
        is_deep = len(Path(folder).relative_to(root).parts) >= _DEEPEST
        subfolders[:] = [] if is_deep else [name for name in subfolders if not name.startswith(".")]
        for name in files:
            path = Path(folder, name)
            if name.lower().endswith(SUFFIXES) and not name.startswith(".") and _is_file(path):
                yield path


def _is_file(path: Path) -> bool:
    """Whether it is a plain file, or a link to one; what cannot be looked at is none."""
    try:
        return path.is_file()
    except OSError:
        return False


def _name_of(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix()


def _require_renamed(roots: Sequence[Path], name: str) -> None:
    """Raises `PrefixNameError` if there is a file that is listed with this name and is to have another."""
    found = _listed(roots).get(name) if isinstance(name, str) else None
    if found is not None:
        require_good_name(_name_of(*found))


def _entry(roots: Sequence[Path], name: str, root: Path, path: Path) -> Entry:
    """What there is to say of a file that was found.

    Raises:
        PrefixFileMissingError: it is not there any more.
    """
    size, modified, seen = 0, "", ""
    try:
        with _telling(name):
            require_good_name(_name_of(root, path))
            resolved = _resolved(roots, path)
            status = resolved.stat()
        size, modified = status.st_size, _date(status.st_mtime)
        seen = preview_version(resolved)
        held = _look_into(resolved, status.st_mtime_ns, size, status.st_ino)
    except PrefixFileMissingError:
        raise
    except PrefixFileError as error:
        held = _unusable(str(error))
    return Entry(name, size, modified, picture=seen, **held)


def _date(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(int(seconds), timezone.utc).isoformat()
    except (ValueError, OverflowError, OSError):  # Files can be dated by anybody, and after the last year there is.
        return ""


def _real(path: Path) -> Path:
    """The path with links resolved as far as they lead anywhere; never fails, as `Path.resolve` does at loops."""
    return Path(os.path.realpath(path))


def _resolved(roots: Sequence[Path], path: Path) -> Path:
    resolved = _real(path)
    if not any(resolved.is_relative_to(_real(root)) for root in roots):
        raise PrefixFileError(
            f"'{shown(path.name)}' is a link, or lies in one, that leads out of models/anonymization_prefixes: put the"
            " file itself there, or name its folder in extra_model_paths.yaml."
        )
    return resolved


def _own(roots: Sequence[Path], name: str) -> tuple[Path, Path]:
    """Root and path of a file that is itself where its name says, whatever that name is."""
    _require_suffix(name)
    found = _listed(roots).get(name)
    if found is None:
        inside = path_inside(name)
        with _telling(name):
            paths = ((root, root / inside) for root in roots)
            found = next((pair for pair in paths if pair[1].is_file() or pair[1].is_symlink()), None)
    if found is None:
        raise _missing(name)
    root, path = found
    _require_no_link(root, PurePosixPath(_name_of(root, path)))
    return root, path


def _free(roots: Sequence[Path], root: Path, inside: PurePosixPath) -> Path:
    """The path below `root`, which no file of any root has."""
    with _telling(inside.as_posix()):
        if any(os.path.lexists(other / inside) for other in roots):
            raise PrefixFileExistsError(
                f"There is a file named '{inside}' already: choose another name, or remove it first."
            )
        _require_no_link(root, inside)
    return root / inside


def _require_no_link(root: Path, inside: PurePosixPath) -> None:
    if (root / inside).is_symlink() or _real(root / inside) != _real(root) / inside:
        raise PrefixFileError(f"'{shown(inside)}' is a link, or lies in one: change it where the file itself lies.")


def _require_suffix(name: str) -> None:
    if not isinstance(name, str):
        path_inside(name)  # Says so.
    if not name.lower().endswith(SUFFIXES):
        raise _missing(name)


def _missing(name: str) -> PrefixFileMissingError:
    return PrefixFileMissingError(
        f"There is no prefix file '{shown(name)}': put it into models/anonymization_prefixes, or choose another."
    )


@contextlib.contextmanager
def _telling(name: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:  # Somebody has taken it away meanwhile.
        raise _missing(name) from error
    except OSError as error:
        raise PrefixFileError(
            f"'{shown(name)}' cannot be reached ({shown(error.strerror or error)}): see to the permissions of"
            " models/anonymization_prefixes."
        ) from error


@lru_cache(maxsize=1024)
def _look_into(path: Path, modified: int, size: int, inode: int) -> dict[str, Any]:
    try:
        prefix = load_prefix(path)
    except PrefixFileMissingError:
        raise
    except PrefixFileError as error:
        return _unusable(str(error))
    return {"fault": None, "record": prefix.record, "widths": prefix.widths, "length": prefix.length}


def _unusable(fault: str) -> dict[str, Any]:
    return {"fault": fault, "record": None, "widths": {}, "length": 0}
