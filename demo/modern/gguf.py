"""Reads a GGUF file, the kinds of tensors that SmolLM2's has: float32, Q4_1 and Q8_0."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...prefix.errors import AnonymizationError

_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_BLOCKS = {0: (1, 4), 3: (32, 20), 8: (32, 34)}
"""Kinds of tensors: weights in a block and its bytes."""


class _Bytes:
    """Takes values off a file's content, one after the other."""

    def __init__(self, content: memoryview) -> None:
        self.content, self.at = content, 0

    def number(self, code: str) -> Any:
        (value,) = struct.unpack_from(f"<{code}", self.content, self.at)
        self.at += struct.calcsize(f"<{code}")
        return value

    def text(self) -> str:
        length = self.number("Q")
        if length > len(self.content) - self.at:
            raise ValueError("a text goes past the end of the file")
        self.at += length
        return bytes(self.content[self.at - length : self.at]).decode("utf-8")

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.text()
        if kind == _ARRAY:
            inner, count = self.number("I"), self.number("Q")
            if count > len(self.content):
                raise ValueError("a list is longer than the file")
            return [self.value(inner) for _ in range(count)]
        return self.number(_NUMBERS[kind])


def read_gguf(path: Path) -> tuple[Mapping[str, Any], Mapping[str, np.ndarray]]:
    """The file's metadata, and its tensors as float32, the last dimension being the input's.

    Raises:
        AnonymizationError: it cannot be read.
    """
    try:
        return _read(memoryview(path.read_bytes()))
    except (OSError, ValueError, KeyError, struct.error) as error:
        raise AnonymizationError(
            f"{path.name} cannot be read as a language model ({error}): fetch it again."
        ) from error


def _read(content: memoryview) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    if bytes(content[:4]) != b"GGUF":
        raise ValueError("it is no GGUF file")
    data = _Bytes(content)
    data.at = 4
    _version, tensors, entries = data.number("I"), data.number("Q"), data.number("Q")
    metadata = {}
    for _ in range(entries):
        name = data.text()
        metadata[name] = data.value(data.number("I"))
    told = []
    for _ in range(tensors):
        name = data.text()
        shape = [data.number("Q") for _ in range(data.number("I"))]
        told.append((name, shape[::-1], data.number("I"), data.number("Q")))
    alignment = metadata.get("general.alignment", 32)
    start = -(-data.at // alignment) * alignment
    return metadata, {name: _weights(content, shape, kind, start + at) for name, shape, kind, at in told}


def _weights(content: memoryview, shape: list[int], kind: int, start: int) -> np.ndarray:
    weights, size = _BLOCKS[kind]
    count = int(np.prod(shape)) // weights
    raw = np.frombuffer(content, np.uint8, count * size, start).reshape(count, size)
    if kind == 0:
        return raw.copy().view(np.float32).reshape(shape)
    scale = raw[:, :2].copy().view(np.float16).astype(np.float32)
    if kind == 8:
        return (raw[:, 2:].copy().view(np.int8) * scale).reshape(shape)
    lowest, packed = raw[:, 2:4].copy().view(np.float16).astype(np.float32), raw[:, 4:]
    return (np.concatenate([packed & 15, packed >> 4], 1) * scale + lowest).reshape(shape)
