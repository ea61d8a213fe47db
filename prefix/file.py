"""Without this module a prefix could not outlive the process: it reads and writes prefix files, whole or not at all.

A prefix file is safetensors: the vectors under their encoder keys, the record as JSON under `record` in the header.
"""

from __future__ import annotations

import contextlib
import json
import os
import uuid
from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError

from .errors import PrefixFileError, PrefixFileExistsError, PrefixValueError
from .value import Prefix, PrefixRecord

SUFFIX = ".safetensors"
"""What the name of a prefix file ends in."""

MAX_FILE_BYTES = 64 * 2**20
MAX_HEADER_BYTES = 2**20
"""Larger files are no prefixes: sixty vectors for the widest encoders known take under 2 MiB."""

_RECORD = "record"


def load_prefix(path: str | os.PathLike[str]) -> Prefix:
    """Reads and checks a prefix file. The file is read once, so what was checked is what is returned.

    Raises:
        PrefixFileError: missing, unreadable, too large, no safetensors, no record, of another version, or vectors that
            cannot be a prefix. Nothing else is raised.
    """
    path = Path(path)
    data = _read(path)
    header_bytes = int.from_bytes(data[:8], "little")
    if len(data) < 8 or header_bytes > min(MAX_HEADER_BYTES, len(data) - 8):
        raise _unfit(path, "it is not a complete safetensors file")
    try:
        vectors = safetensors.torch.load(data)
        metadata = json.loads(data[8 : 8 + header_bytes]).get("__metadata__", {})
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError, RecursionError) as error:
        raise _unfit(path, f"it is not a sound safetensors file ({error})") from error
    if _RECORD not in metadata:
        raise _unfit(path, "it carries no record of how it was learned")
    try:
        return Prefix(vectors=vectors, record=PrefixRecord.from_json(metadata[_RECORD]))
    except PrefixValueError as error:
        raise _unfit(path, str(error).rstrip(".")) from error


def save_prefix(prefix: Prefix, path: str | os.PathLike[str], overwrite: bool = False) -> Path:
    """Writes a prefix file and returns its path; makes the folder if there is none.

    The bytes go to a temporary file in the same folder, are synced, and only then get the name, so that nobody, after a
    crash either, finds half a file. Of two processes that save under one name without `overwrite`, one gets the error.

    Raises:
        PrefixFileExistsError: there is a file of that name and `overwrite` is false.
        PrefixFileError: the name does not end in `.safetensors`, or the folder cannot be written to.
    """
    path = Path(path)
    if path.suffix != SUFFIX:
        raise PrefixFileError(f"'{path.name}' is no name for a prefix file: let it end in {SUFFIX}.")
    data = safetensors.torch.save(dict(prefix.vectors), metadata={_RECORD: prefix.record.to_json()})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(data, path, overwrite)
    except OSError as error:
        raise PrefixFileError(
            f"The prefix could not be saved as '{path}' ({error.strerror or error}): choose a folder that has"
            " room and can be written to."
        ) from error
    return path


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError as error:
        raise PrefixFileError(
            f"There is no prefix file '{path.name}': put it into models/anonymization_prefixes, or choose another."
        ) from error
    except (OSError, ValueError) as error:
        raise _unfit(path, f"it cannot be read ({error})") from error
    if len(data) > MAX_FILE_BYTES:
        raise _unfit(path, f"it is larger than {MAX_FILE_BYTES >> 20} MiB")
    return data


def _unfit(path: Path, reason: str) -> PrefixFileError:
    return PrefixFileError(
        f"'{path.name}' cannot be used as a prefix: {reason}. Choose another file, or learn a prefix with"
        " Train Anonymization Prefix."
    )


def _write(data: bytes, path: Path, overwrite: bool) -> None:
    temporary = path.with_name(f".{uuid.uuid4().hex}.tmp")
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
    """Gives `source` the name `target` unless that is taken; no other process can slip in between."""
    try:
        if os.name == "nt":
            source.rename(target)  # Windows refuses by itself if there is such a file.
        else:
            _link_or_claim(source, target)
    except FileExistsError as error:
        raise PrefixFileExistsError(
            f"There is a file named '{target.name}' already: choose another name, or remove it first."
        ) from error


def _link_or_claim(source: Path, target: Path) -> None:
    try:
        target.hardlink_to(source)
    except FileExistsError:
        raise
    except OSError:
        # Some file systems (exFAT, some network drives) know no links: there, claim the name first.
        target.open("xb").close()
        source.replace(target)


def _sync_folder(folder: Path) -> None:
    # Makes the new name itself survive a power cut; some systems cannot, and the file is whole either way.
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
