"""Reads safetensors files of a few tensors: their header is counted and checked before any tensor is made."""

from __future__ import annotations

from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from ..errors import PrefixValueError, first_line
from .foreign import kind_of, kind_of_names
from .plain import read_json

MAX_HEADER_BYTES = 2**20
MAX_TENSORS = 128
"""A prefix has one for each text encoder, and the parts of the network that makes it: some twenty."""

_METADATA = "__metadata__"


def is_safetensors(data: bytes) -> bool:
    """Whether a file is one of safetensors, sound or not, by how it begins."""
    return data[8:9] == b"{" and int.from_bytes(data[:8], "little") <= len(data)


def read_safetensors(data: bytes) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors by name, and the texts beside them.

    Raises:
        PrefixValueError: damaged, with more in it than a prefix can have, or not what it says once.
    """
    header_bytes = int.from_bytes(data[:8], "little")
    if len(data) < 8 or header_bytes > len(data) - 8:
        raise PrefixValueError("It is not a complete safetensors file.")
    text = data[8 : 8 + header_bytes]
    if header_bytes > MAX_HEADER_BYTES:
        raise _too_much(kind_of(text), f"a header of more than {MAX_HEADER_BYTES >> 10} KiB")
    try:
        header = read_json(text)
        metadata = _metadata(header)
        tensors = safetensors.torch.load(data)
    except PrefixValueError:
        raise
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError, RecursionError) as error:
        raise PrefixValueError(f"It is not a sound safetensors file ({first_line(error)}).") from error
    return tensors, metadata


def _metadata(header: Any) -> dict[str, str]:
    if not isinstance(header, dict):
        raise PrefixValueError("It is not a sound safetensors file (its header is no table).")
    metadata = header.get(_METADATA) or {}
    names = header.keys() - {_METADATA}
    if len(names) > MAX_TENSORS:
        raise _too_much(kind_of_names(names), f"{len(names)} entries")
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        raise PrefixValueError("It is not a sound safetensors file (its notes are no text).")
    return metadata


def _too_much(kind: str | None, what: str) -> PrefixValueError:
    return PrefixValueError(f"It is {kind}, not a prefix." if kind else f"It holds {what}, and no prefix does.")
