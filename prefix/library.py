"""Without this module prefix files could not be looked through, named anew, taken in or removed: the folders' keeper.

The *roots* are the folders that prefix files lie in, the first of them for new ones; a file is called by its path below
its root, with '/'. Of two files with one name the first root's counts. Nothing outside the roots is read or written.
Changes are made one at a time, and each of them wholly or not at all.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from .errors import PrefixFileError, PrefixFileExistsError, PrefixFileMissingError
from .file import SUFFIXES, load_prefix, parse_prefix, prefix_bytes
from .naming import file_path, path_inside
from .provenance import family_title, fits_family
from .storage import MAX_FILE_BYTES, SUFFIX, move_whole, read_whole, write_whole
from .value import PrefixRecord

FOLDER = "anonymization_prefixes"
"""Where prefix files lie below a host's `models`."""

NONE_YET = "(no prefix files yet)"
"""What a list of prefix files shows while there is nothing to choose from."""

_CHANGES = threading.Lock()


@dataclass(frozen=True)
class Entry:
    """A prefix file as a list shows it.

    Attributes:
        name: its path below its root.
        size: in bytes.
        modified: ISO 8601, UTC.
        fault: why it cannot be used, in words for the artist; None if it can.
        record: how the prefix was learned; None if it cannot be used.
        widths: width of each encoder's vectors.
        length: number of vectors.
    """

    name: str
    size: int
    modified: str
    fault: str | None
    record: PrefixRecord | None
    widths: Mapping[str, int]
    length: int

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
        }

    def details(self, family: str | None = None) -> dict[str, Any]:
        """JSON: the summary and the whole record."""
        record = None if self.record is None else json.loads(self.record.to_json())
        return self.summary(family) | {"record": record}


def names(roots: Sequence[Path]) -> list[str]:
    """Every prefix file, sub folders included. Hidden ones are left out, folders that are links are not entered."""
    return sorted({name for root in roots for name in _names_below(root)})


def state(roots: Sequence[Path]) -> str:
    """Changes when a prefix file comes, goes, or is written to or replaced, by whomever."""
    told = hashlib.sha256()
    for root in roots:
        for name in sorted(_names_below(root)):
            try:
                status = (root / name).stat()
                parts = (status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino)
            except OSError:  # It is a link to nowhere, or has gone meanwhile.
                parts = ()
            told.update(repr((str(root), name, parts)).encode("utf-8", "surrogateescape"))
    return told.hexdigest()


def choices(roots: Sequence[Path]) -> list[str]:
    """Options for a list of prefix files: their names, or one that says there are none."""
    return names(roots) or [NONE_YET]


def chosen(roots: Sequence[Path], name: str | None) -> Path:
    """Where the file that was chosen from `choices` lies, links resolved.

    Raises:
        PrefixFileError: nothing was chosen, or as `find`.
    """
    if not name or name == NONE_YET:
        raise PrefixFileError(
            "There is no prefix to use: learn one with Train Anonymization Prefix, or put a prefix file into"
            f" models/{FOLDER} and choose it."
        )
    return find(roots, name)


def find(roots: Sequence[Path], name: str) -> Path:
    """Where the file lies, links resolved.

    Raises:
        PrefixFileError: there is none, or its name or a link leads out of the roots.
    """
    inside = path_inside(name)
    with _telling(name):
        for root in roots:
            if (root / inside).is_file():
                return _resolved(roots, root / inside)
    raise _missing(name)


def entry(roots: Sequence[Path], name: str) -> Entry:
    """The file of that name; one that cannot be used says why.

    Raises:
        PrefixFileError: as `find`, or the name is not one of a prefix file.
    """
    _require_suffix(name)
    path = find(roots, name)
    with _telling(name):
        status = path.stat()
        modified = datetime.fromtimestamp(int(status.st_mtime), timezone.utc).isoformat()
    held = _look_into(path, status.st_mtime_ns, status.st_size, status.st_ino)
    return Entry(path_inside(name).as_posix(), status.st_size, modified, **held)


def entries(roots: Sequence[Path]) -> list[Entry]:
    """Every prefix file; those that go away meanwhile, or cannot be called by their name, are left out."""
    found = []
    for name in names(roots):
        with contextlib.suppress(PrefixFileError):
            found.append(entry(roots, name))
    return found


def content(roots: Sequence[Path], name: str) -> bytes:
    """The bytes of the file.

    Raises:
        PrefixFileError: as `entry`, or it is too large for a prefix file.
    """
    _require_suffix(name)
    return read_whole(find(roots, name))


def add(roots: Sequence[Path], name: str, data: bytes) -> Entry:
    """Takes in a file that somebody brings: what was checked is written, in our own format. Nothing in it is executed.

    Args:
        roots: the first gets it.
        name: what the file is called; the suffix says what it is (`.safetensors`, `.pt`, `.bin`).
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
        move_whole(path, _free(roots, root, target))
    return entry(roots, target.as_posix())


def delete(roots: Sequence[Path], name: str) -> None:
    """Removes a file.

    Raises:
        PrefixFileError: as `entry`, it is a link or lies in one, or the folder cannot be written to.
    """
    with _CHANGES, _telling(name):
        _own(roots, name)[1].unlink()


def _names_below(root: Path) -> Iterator[str]:
    for folder, subfolders, files in os.walk(root):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        for name in files:
            if name.lower().endswith(SUFFIXES) and not name.startswith("."):
                yield (Path(folder) / name).relative_to(root).as_posix()


def _resolved(roots: Sequence[Path], path: Path) -> Path:
    resolved = path.resolve()
    if not any(resolved.is_relative_to(root.resolve()) for root in roots):
        raise PrefixFileError(
            f"'{path.name}' is a link, or lies in one, that leads out of models/anonymization_prefixes: put the file"
            " itself there, or name its folder in extra_model_paths.yaml."
        )
    return resolved


def _own(roots: Sequence[Path], name: str) -> tuple[Path, Path]:
    """Root and path of a file that is itself where its name says."""
    inside = path_inside(name)
    _require_suffix(name)
    with _telling(name):
        for root in roots:
            path = root / inside
            if path.is_file() or path.is_symlink():
                _require_no_link(root, inside)
                return root, path
    raise _missing(name)


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
    if (root / inside).resolve() != root.resolve() / inside:
        raise PrefixFileError(f"'{inside}' is a link, or lies in one: change it where the file itself lies.")


def _require_suffix(name: str) -> None:
    if not name.lower().endswith(SUFFIXES):
        raise _missing(name)


def _missing(name: str) -> PrefixFileMissingError:
    return PrefixFileMissingError(
        f"There is no prefix file '{name}': put it into models/anonymization_prefixes, or choose another."
    )


@contextlib.contextmanager
def _telling(name: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:  # Somebody has taken it away meanwhile.
        raise _missing(name) from error
    except OSError as error:
        raise PrefixFileError(
            f"'{name}' cannot be reached ({error.strerror or error}): see to the permissions of"
            " models/anonymization_prefixes."
        ) from error


@lru_cache(maxsize=1024)
def _look_into(path: Path, modified: int, size: int, inode: int) -> dict[str, Any]:
    if size > MAX_FILE_BYTES:
        fault = f"'{path.name}' is larger than {MAX_FILE_BYTES >> 20} MiB, which no prefix is: remove it."
        return {"fault": fault, "record": None, "widths": {}, "length": 0}
    try:
        prefix = load_prefix(path)
    except PrefixFileError as error:
        return {"fault": str(error), "record": None, "widths": {}, "length": 0}
    return {"fault": None, "record": prefix.record, "widths": prefix.widths, "length": prefix.length}
