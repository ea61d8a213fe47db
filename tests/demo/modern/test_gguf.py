"""GGUF files are read as they are laid out, and damaged ones are refused in a sentence."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from anonymize_faces.demo.modern.gguf import read_gguf
from anonymize_faces.prefix.errors import AnonymizationError


def text(words: str) -> bytes:
    return struct.pack("<Q", len(words)) + words.encode()


@pytest.fixture
def content() -> bytes:
    """A file with one of each kind of tensor: 64 weights each in two rows."""
    q4 = b"".join(struct.pack("<ee", 0.5, -1.0) + bytes(n | (15 - n) << 4 for n in range(16)) for _ in range(2))
    q8 = b"".join(struct.pack("<e", 0.25) + np.arange(-16, 16, dtype=np.int8).tobytes() for _ in range(2))
    plain = np.arange(64, dtype=np.float32).tobytes()
    entries = text("general.name") + struct.pack("<I", 8) + text("small")
    entries += text("tokens") + struct.pack("<IIQ", 9, 8, 2) + text("a") + text("b")
    told, at = b"", 0
    for name, kind, data in (("plain", 0, plain), ("four", 3, q4), ("eight", 8, q8)):
        told += text(name) + struct.pack("<IQQIQ", 2, 32, 2, kind, at)
        at += len(data) + -len(data) % 32
    head = b"GGUF" + struct.pack("<IQQ", 3, 3, 2) + entries + told
    parts = [head, *(data for data in (plain, q4, q8))]
    return b"".join(part + bytes(-len(part) % 32) for part in parts)


def test_each_kind_of_tensor_is_read(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "small.gguf").write_bytes(content)
    metadata, tensors = read_gguf(tmp_path / "small.gguf")
    assert metadata == {"general.name": "small", "tokens": ["a", "b"]}
    assert np.array_equal(tensors["plain"], np.arange(64, dtype=np.float32).reshape(2, 32))
    row = [0.5 * n - 1 for n in (*range(16), *range(15, -1, -1))]
    assert np.array_equal(tensors["four"], [row, row])
    assert np.array_equal(tensors["eight"], [0.25 * np.arange(-16, 16)] * 2)


@pytest.mark.parametrize("damage", [lambda c: c[:-40], lambda c: c[:30], lambda c: b"", lambda c: b"GGML" + c[4:]])
def test_a_damaged_file_is_refused(content: bytes, tmp_path: Path, damage) -> None:
    (tmp_path / "small.gguf").write_bytes(damage(content))
    with pytest.raises(AnonymizationError, match=r"small\.gguf cannot be read .*fetch it again"):
        read_gguf(tmp_path / "small.gguf")
