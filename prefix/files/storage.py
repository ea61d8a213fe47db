"""Reads bytes with a limit, and writes them whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
import time
import uuid
from pathlib import Path
from typing import IO

from ..errors import PrefixFileError, PrefixFileExistsError, PrefixFileMissingError, first_line, shown
from .foreign import HEAD_BYTES, kind_of

SUFFIX = ".safetensors"
"""What the name of a file that we write ends in."""

MAX_FILE_BYTES = 64 * 2**20
"""Larger files are no prefixes: sixty vectors for the widest encoders known take under 2 MiB."""

STALE_SECONDS = 3600.0
"""A temporary file as old as this belongs to nobody who still saves: the next one who saves there removes it."""

_TEMPORARY = ".anonymize-faces-{}.tmp"
_TEMPORARY_NAME = re.compile(re.escape(_TEMPORARY).replace(r"\{\}", "[0-9a-f]{32}"))


def read_whole(path: Path) -> bytes:
    """All bytes of a file.

    Raises:
        PrefixFileMissingError: there is no plain file of that name.
        PrefixFileError: unreadable, or larger than `MAX_FILE_BYTES`.
    """
    name = shown(path.name)
    require_no_folder(path)
    try:
        if not path.is_file():  # To open a pipe would wait for ever, and a device might do anything.
            raise PrefixFileMissingError(
                f"There is no prefix file '{name}': put it into models/anonymization_prefixes, or choose another."
            )
        with _opened(path) as file:
            size = os.fstat(file.fileno()).st_size
            data = file.read(HEAD_BYTES if size > MAX_FILE_BYTES else MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        raise PrefixFileError(
            f"'{name}' cannot be read ({shown(reason)}): see to its permissions, or choose another file."
        ) from error
    if size > MAX_FILE_BYTES:
        raise _too_large(data, name)
    require_size(data, name)
    return data


def require_no_folder(path: Path) -> None:
    """Raises `PrefixFileMissingError` if that is a folder."""
    with contextlib.suppress(OSError):  # What cannot be looked at is told of where it is read.
        if path.is_dir():
            raise PrefixFileMissingError(f"'{shown(path)}' is a folder: name a prefix file in it.")


def require_size(data: bytes, name: str) -> None:
    """Raises `PrefixFileError` if that is more than a prefix file may hold."""
    if len(data) > MAX_FILE_BYTES:
        raise _too_large(data, shown(name))


def _too_large(data: bytes, name: str) -> PrefixFileError:
    kind = kind_of(data)
    reason = f"it is {kind}, not a prefix" if kind else f"it is larger than {MAX_FILE_BYTES >> 20} MiB"
    return PrefixFileError(f"'{name}' cannot be used as a prefix: {reason}. Choose another file.")


def _opened(path: Path) -> IO[bytes]:
    """The plain file of that name, without waiting for whatever may have taken its place meanwhile."""
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    file = os.fdopen(os.open(path, flags), "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError("it is no plain file")
    return file


def write_whole(data: bytes, path: Path, overwrite: bool = False) -> Path:
    """Writes a file and returns its path; makes the folder if there is none.

    The bytes go to a temporary file in the same folder, are synced, and only then get the name, so that nobody, after a
    crash either, finds half a file. Of two processes that save under one name without `overwrite`, one gets the error.
    Temporary files that somebody left behind long ago are removed.

    Raises:
        PrefixFileExistsError: there is a file of that name and `overwrite` is false.
        PrefixFileError: the name does not end in `.safetensors`, or the folder cannot be written to.
    """
    if path.suffix != SUFFIX:
        raise PrefixFileError(f"'{shown(path.name)}' is no name for a prefix file: let it end in {SUFFIX}.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path.parent)
        put_whole(data, path, overwrite)
    except OSError as error:
        raise PrefixFileError(
            f"The prefix could not be saved as '{shown(path)}' ({error.strerror or error}): choose a folder that has"
            " room and can be written to."
        ) from error
    return path


def move_whole(source: Path, target: Path) -> None:
    """Gives a file another name, in a folder that is made if there is none.

    Raises:
        PrefixFileExistsError: that name is taken.
        PrefixFileError: the folder cannot be written to.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _rename_exclusively(source, target)
        source.unlink(missing_ok=True)
        _sync_folder(target.parent)
    except OSError as error:
        raise PrefixFileError(
            f"'{shown(source.name)}' could not be renamed to '{target.name}' ({error.strerror or error}): see to the"
            " permissions of the folder."
        ) from error


def put_whole(data: bytes, path: Path, overwrite: bool) -> None:
    """As `write_whole`, for a file of any name in a folder that is there.

    Raises:
        OSError: as it comes.
        PrefixFileExistsError: there is a file of that name and `overwrite` is false.
    """
    temporary = path.with_name(_TEMPORARY.format(uuid.uuid4().hex))
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if overwrite:
            temporary.replace(path)
        else:
            _rename_exclusively(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)


def _rename_exclusively(source: Path, target: Path) -> None:
    """Gives `source` the name `target` unless that is taken; no other process of ours can slip in between."""
    try:
        if os.name == "nt":
            source.rename(target)  # Windows refuses by itself if there is such a file.
        else:
            _link_or_claim(source, target)
    except FileExistsError as error:
        raise PrefixFileExistsError(
            f"There is a file named '{shown(target.name)}' already: choose another name, or remove it first."
        ) from error


def _link_or_claim(source: Path, target: Path) -> None:
    try:
        target.hardlink_to(source)
    except FileExistsError:
        raise
    except OSError:
        # Some file systems (exFAT, some network drives) know no links: there, whoever makes this file may rename.
        claim = target.with_name(_TEMPORARY.format(hashlib.md5(os.fsencode(target.name)).hexdigest()))
        claim.open("xb").close()
        try:
            if os.path.lexists(target):
                raise FileExistsError from None
            source.replace(target)
        finally:
            claim.unlink(missing_ok=True)


def _sweep(folder: Path) -> None:
    with contextlib.suppress(OSError):
        for entry in os.scandir(folder):
            if _TEMPORARY_NAME.fullmatch(entry.name) and time.time() - entry.stat().st_mtime > STALE_SECONDS:
                Path(entry.path).unlink()


def _sync_folder(folder: Path) -> None:
    # Makes the new name itself survive a power cut; some systems cannot, and the file is whole either way.
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
