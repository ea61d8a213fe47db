"""Stores tensors of one shape on disk, and in memory where the disk fails."""

from __future__ import annotations

import contextlib
import json
import math
import mmap
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

MEMORY_BUDGET = 64 * 2**20
"""Bytes that a store without a file keeps in memory."""

NAME = "rows"


class TensorStore:
    """`count` tensors of one shape, float32 on the CPU, of which some are known.

    A row is written into the file at once, and read back through the system's page cache, so that memory does not grow
    with their number; the file is safetensors, preallocated, so that each row has its place from the start. Which rows
    of a file are whole it does not say itself: that is for whoever opens it to know (see `known`).

    Without a file, or once it fails (a full disk), rows are kept in memory; those beyond the budget are not, unless
    `precious`.

    Args:
        count: number of rows.
        shape: of one row.
        path: the file, made if need be; None for memory alone.
        known: rows that the file holds whole. What else it holds is never read.
        precious: rows that cannot be had again: without a file they stay in memory whatever they take.
        on_failure: told once why the file can no longer be used; the rows then live in memory alone.
    """

    def __init__(
        self,
        count: int,
        shape: Iterable[int],
        path: Path | None = None,
        known: Iterable[int] = (),
        *,
        precious: bool = False,
        budget: int = MEMORY_BUDGET,
        on_failure: Callable[[OSError], None] = lambda error: None,
    ) -> None:
        self.count = count
        self.shape = tuple(shape)
        self._precious = precious
        self._row_bytes = 4 * math.prod(self.shape)
        self._room = budget // self._row_bytes
        self._on_failure = on_failure
        self._memory: dict[int, Tensor] = {}
        self._on_disk: set[int] = set()
        self._file: Any = None
        self._map: Any = None
        self._path = path
        self._start = 0
        if path is not None:
            try:
                self._open(path)
                self._on_disk = set(known) if self._whole else set()
            except (OSError, ValueError) as error:
                self._fail(OSError(str(error)))

    def known(self) -> list[int]:
        """The rows that can be had, in order."""
        return sorted(self._on_disk | self._memory.keys())

    def on_disk(self) -> list[int]:
        """The rows that another process would find in the file, once `sync` has returned, in order."""
        return sorted(self._on_disk) if self._file is not None else []

    def __contains__(self, index: int) -> bool:
        return index in self._memory or index in self._on_disk

    def __getitem__(self, index: int) -> Tensor:
        """A known row; KeyError for others."""
        if index in self._memory:
            return self._memory[index]
        if index not in self._on_disk:
            raise KeyError(index)
        start = self._start + index * self._row_bytes
        return torch.frombuffer(bytearray(self._map[start : start + self._row_bytes]), dtype=torch.float32).view(
            self.shape
        )

    def put(self, index: int, row: Tensor) -> None:
        """Makes a row known."""
        row = row.detach().to("cpu", torch.float32, copy=True).contiguous()
        if self._file is not None:
            try:
                self._file.seek(self._start + index * self._row_bytes)
                write_all(self._file, row.numpy())
                self._on_disk.add(index)
                return
            except OSError as error:
                self._fail(error)
        if self._precious or len(self._memory) < self._room:
            self._memory[index] = row

    def adopt(self, indices: Iterable[int]) -> None:
        """Makes rows known that other processes have put into the same file; each must have synced them.

        Raises:
            OSError: there is no file any more that could be shared.
        """
        if self._file is None:
            raise OSError(f"nothing can be written to {self._path}")
        # Network file systems show what others wrote once a file is opened anew.
        for part in (self._map, self._file):
            part.close()
        assert self._path is not None
        self._open(self._path)
        self._on_disk.update(indices)

    def sync(self) -> None:
        """Makes what was put survive a power cut."""
        if self._file is not None:
            try:
                os.fsync(self._file.fileno())
            except OSError as error:
                self._fail(error)

    def close(self) -> None:
        """Lets go of the file; what was in it alone is no longer known."""
        self._on_disk.clear()
        for part in (self._map, self._file):
            if part is not None:
                with contextlib.suppress(OSError):
                    part.close()
        self._map = self._file = None

    def remove_if_computed(self) -> None:
        """Removes a closed file of rows that can be had again."""
        if self._path is not None and not self._precious:
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)

    def _open(self, path: Path) -> None:
        header = self._header()
        self._start = len(header)
        size = self._start + self.count * self._row_bytes
        self._whole = path.is_file() and path.stat().st_size == size and _head(path, self._start) == header
        # Unbuffered: a full disk is to be noticed by the very row that no longer fits.
        self._file = path.open("r+b" if self._whole else "w+b", buffering=0)
        if not self._whole:
            self._file.write(header)
            self._file.truncate(size)
        self._map = mmap.mmap(self._file.fileno(), size, access=mmap.ACCESS_READ)

    def _header(self) -> bytes:
        entry = {
            "dtype": "F32",
            "shape": [self.count, *self.shape],
            "data_offsets": [0, self.count * self._row_bytes],
        }
        text = json.dumps({NAME: entry}).encode()
        text += b" " * (-len(text) % 8)
        return len(text).to_bytes(8, "little") + text

    def _fail(self, error: OSError) -> None:
        """Goes on without writing; what the file holds can still be read."""
        if self._precious:
            self._memory.update({index: self[index] for index in self._on_disk - self._memory.keys()})
        if self._file is not None:
            self._file.close()
        self._file = None
        self._on_failure(error)


def write_all(file: IO[bytes], data: np.ndarray) -> None:
    """Writes all bytes into an unbuffered file, which may take but a part at once, as where the disk is about to fill.

    Raises:
        OSError: they do not all fit.
    """
    rest = memoryview(data.reshape(-1).view(np.uint8))  # type: ignore[arg-type]
    while rest:
        rest = rest[file.write(rest) :]


def _head(path: Path, length: int) -> bytes:
    with path.open("rb") as file:
        return file.read(length)
