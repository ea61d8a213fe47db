"""Without this module a prefix could not outlive the process: it reads and writes prefix files, whole or not at all.

A prefix file is safetensors: the vectors under their encoder keys, the record as JSON under `record` in the header.
Beside the record's own fields the JSON holds `sha256`, a digest of vectors and record: a file that changed is noticed.
Files of others that hold a textual inversion are read as well, see `textual_inversion`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from .errors import PrefixFileError, PrefixValueError
from .storage import SUFFIX, read_whole, require_size, write_whole
from .textual_inversion import from_textual_inversion
from .torch_file import read_torch_file
from .value import Prefix, PrefixRecord

TORCH_SUFFIXES = (".pt", ".bin")
"""What the names of files that `torch.save` wrote end in."""

SUFFIXES = (SUFFIX, *TORCH_SUFFIXES)
"""What the name of a file that is read as a prefix ends in."""

MAX_HEADER_BYTES = 2**20

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
    _require_suffix(path.name)
    return parse_prefix(read_whole(path), path.name)


def parse_prefix(data: bytes, name: str) -> Prefix:
    """What `load_prefix` makes of a file with that content and that name.

    Raises:
        PrefixFileError: as `load_prefix`.
    """
    _require_suffix(name)
    require_size(data, name)
    try:
        if name.lower().endswith(TORCH_SUFFIXES):
            return from_textual_inversion(read_torch_file(data), name)
        vectors, metadata = _read_safetensors(data)
        if _RECORD not in metadata:
            return from_textual_inversion(vectors, name)
        prefix = Prefix(vectors=vectors, record=PrefixRecord.from_json(metadata[_RECORD]))
        _require_unchanged(prefix.vectors, json.loads(metadata[_RECORD]))
        return prefix
    except PrefixValueError as error:
        raise _unfit(name, str(error).rstrip(".")) from error


def save_prefix(prefix: Prefix, path: str | os.PathLike[str], overwrite: bool = False) -> Path:
    """Writes a prefix file and returns its path; see `storage.write_whole` for how, and for what it raises."""
    return write_whole(prefix_bytes(prefix), Path(path), overwrite)


def prefix_bytes(prefix: Prefix) -> bytes:
    """The content of a prefix file."""
    fields = json.loads(prefix.record.to_json())
    record = json.dumps(fields | {_DIGEST: _digest(prefix.vectors, fields)}, allow_nan=False)
    return safetensors.torch.save(dict(prefix.vectors), metadata={_RECORD: record})


def _read_safetensors(data: bytes) -> tuple[dict[str, Tensor], dict[str, str]]:
    header_bytes = int.from_bytes(data[:8], "little")
    if len(data) < 8 or header_bytes > min(MAX_HEADER_BYTES, len(data) - 8):
        raise PrefixValueError("It is not a complete safetensors file.")
    try:
        tensors = safetensors.torch.load(data)
        metadata = dict(json.loads(data[8 : 8 + header_bytes]).get("__metadata__") or {})
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError, RecursionError) as error:
        raise PrefixValueError(f"It is not a sound safetensors file ({error}).") from error
    if not all(isinstance(text, str) for text in metadata.values()):
        raise PrefixValueError("It is not a sound safetensors file (its notes are no text).")
    return tensors, metadata


def _require_unchanged(vectors: Mapping[str, Tensor], fields: dict[str, Any]) -> None:
    """Raises `PrefixValueError` if vectors or record are not those that were saved."""
    stated = fields.pop(_DIGEST, None)
    if stated is None:
        # Written before there were digests, when a record had no fields that we don't know.
        unchanged = fields.keys() <= {entry.name for entry in dataclasses.fields(PrefixRecord)}
    else:
        unchanged = stated == _digest(vectors, fields)
    if not unchanged:
        raise PrefixValueError("It was changed or damaged after it was saved.")


def _digest(vectors: Mapping[str, Tensor], fields: Mapping[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps(fields, sort_keys=True).encode())
    for key in sorted(vectors):
        digest.update(f"{key}{tuple(vectors[key].shape)}".encode())
        digest.update(vectors[key].numpy().astype("<f4").tobytes())
    return digest.hexdigest()


def _require_suffix(name: str) -> None:
    if not name.lower().endswith(SUFFIXES):
        raise _unfit(name, f"its name ends in none of {', '.join(SUFFIXES)}")


def _unfit(name: str, reason: str) -> PrefixFileError:
    reason = reason[:1].lower() + reason[1:]
    return PrefixFileError(
        f"'{name}' cannot be used as a prefix: {reason}. Choose another file, or learn a prefix with"
        " Train Anonymization Prefix."
    )
