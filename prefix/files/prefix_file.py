"""Reads and writes prefix files, whole or not at all.

A prefix file is safetensors: the vectors under their encoder keys, parts of meta-networks under `key/part`, what
says where faces are under `face_region/part`, the record as JSON under `record` in the header.
Beside the record's own fields the JSON holds `sha256`, a digest of vectors and record: a file that changed is noticed.
Files of others that hold a textual inversion are read as well, see `textual_inversion`.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import safetensors.torch
from torch import Tensor

from ..digests import seal
from ..errors import PrefixFileError, PrefixValueError, first_line, shown
from ..value import Prefix, PrefixRecord, prefix_of, same_tensors
from .safetensors_file import is_safetensors, read_safetensors
from .storage import SUFFIX, read_whole, require_no_folder, require_size, write_whole
from .textual_inversion import from_textual_inversion, vectors_in
from .torch_file import ZIP_START, read_torch_file

TORCH_SUFFIXES = (".pt", ".bin")
"""What the names of files that `torch.save` wrote end in."""

SUFFIXES = (SUFFIX, *TORCH_SUFFIXES)
"""What the name of a file that is read as a prefix ends in."""

Read = TypeVar("Read")
"""What is read of a file."""

_RECORD = "record"
_DIGEST = "sha256"


def load_prefix(path: str | os.PathLike[str]) -> Prefix:
    """Reads and checks a prefix file, our own or a textual inversion (`.safetensors`, `.pt`, `.bin`).

    The file is read once, so what was checked is what is returned. Nothing in it is executed.

    Raises:
        PrefixFileError: missing, unreadable, too large, damaged, of another version or another kind, or with vectors
            that cannot be a prefix. Nothing else is raised.
    """
    path = Path(path)
    require_no_folder(path)
    _require_suffix(path.name)
    return parse_prefix(read_whole(path), path.name)


def load_embedding(path: Path) -> list[Tensor]:
    """Reads the vectors `[m, d]` of a textual inversion, of whatever text encoders. Nothing in it is executed.

    Raises:
        PrefixFileError: as `load_prefix`.
    """
    require_no_folder(path)
    data = read_whole(path)
    return _checked(data, path.name, lambda name: vectors_in(_content(data, name)[0]))


def parse_prefix(data: bytes, name: str) -> Prefix:
    """What `load_prefix` makes of a file with that content and that name.

    The content says what kind of file it is: people rename files.

    Raises:
        PrefixFileError: as `load_prefix`.
    """
    return _checked(data, name, lambda name: _parsed(data, name))


def _checked(data: bytes, name: str, read: Callable[[str], Read]) -> Read:
    """What is read of a file whose content is data; whatever goes wrong is told of its name."""
    _require_suffix(name)
    require_size(data, name)
    try:
        return read(shown(name))
    except PrefixValueError as error:
        raise _unfit(name, str(error).rstrip(".")) from error
    except Exception as error:  # Whatever else a file makes a reader do, it is that file's fault alone.
        raise _unfit(name, f"it makes no sense ({type(error).__name__})") from error


def save_prefix(prefix: Prefix, path: str | os.PathLike[str], overwrite: bool = False) -> Path:
    """Writes a prefix file and returns its path; see `storage.write_whole` for how, and for what it raises."""
    return write_whole(prefix_bytes(prefix), Path(path), overwrite)


def prefix_bytes(prefix: Prefix) -> bytes:
    """The content of a prefix file, which was read back as whoever opens it will.

    Raises:
        PrefixFileError: no reader would take it, because its record is too long.
    """
    fields = json.loads(prefix.record.to_json())
    record = json.dumps(fields | {_DIGEST: seal(prefix.tensors, fields)}, ensure_ascii=False, allow_nan=False)
    data = safetensors.torch.save(prefix.tensors, metadata={_RECORD: record})
    try:
        back = _parsed(data, "")
    except PrefixValueError as error:
        raise PrefixFileError(
            f"The prefix cannot be saved, because its file could not be read again ({first_line(error)}): shorten its"
            " notes, or what else its record holds."
        ) from error
    if back.record != prefix.record or not same_tensors(back, prefix):
        raise PrefixFileError("The prefix cannot be saved, because its file would hold something else: learn it anew.")
    return data


def _parsed(data: bytes, name: str) -> Prefix:
    parameters, metadata = _content(data, name)
    if _RECORD not in metadata:
        return from_textual_inversion(parameters, name)
    record = PrefixRecord.from_json(metadata[_RECORD])
    prefix = prefix_of(parameters, record)
    _require_unchanged(prefix.tensors, json.loads(metadata[_RECORD]))
    if prefix.record.format_version != record.format_version:
        raise PrefixValueError("It holds another kind of prefix than its record says.")
    return prefix


def _content(data: bytes, name: str) -> tuple[Any, dict[str, str]]:
    """What a file holds, and what it says of itself."""
    if data.startswith(ZIP_START) or (name.lower().endswith(TORCH_SUFFIXES) and not is_safetensors(data)):
        return read_torch_file(data), {}
    return read_safetensors(data)


def _require_unchanged(parameters: Mapping[str, Tensor], fields: dict[str, Any]) -> None:
    """Raises `PrefixValueError` if vectors, networks, face region or record are not those that were saved."""
    stated = fields.pop(_DIGEST, None)
    if stated is None:
        # Written before there were digests, when a record had no fields that we don't know.
        unchanged = fields.keys() <= {entry.name for entry in dataclasses.fields(PrefixRecord)}
    else:
        unchanged = stated == seal(parameters, fields)
    if not unchanged:
        raise PrefixValueError("It was changed or damaged after it was saved.")


def _require_suffix(name: str) -> None:
    if not name.lower().endswith(SUFFIXES):
        raise _unfit(name, f"its name ends in none of {', '.join(SUFFIXES)}")


def _unfit(name: str, reason: str) -> PrefixFileError:
    reason = reason[:1].lower() + reason[1:]
    return PrefixFileError(
        f"'{shown(name)}' cannot be used as a prefix: {reason}. Choose another file, or learn a prefix with"
        " Train Anonymization Prefix."
    )
