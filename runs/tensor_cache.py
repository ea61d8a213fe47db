"""Caches what the text encoders say, on disk or in memory.

Values made of tensors are kept in a nameless file, which the system drops with the process: they can be had again.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from .tensor_store import MEMORY_BUDGET, write_all

MOST_ON_DISK = 4 * 2**30
"""Bytes that the file may take."""

LEFT_FREE = 2**30
"""Bytes of the disk that are left for what cannot be had again."""


Name = TypeVar("Name", bound=Hashable)


@dataclass(frozen=True)
class _Place:
    """Where in the file a tensor is, and what it is."""

    start: int
    bytes: int
    dtype: torch.dtype
    shape: torch.Size
    device: torch.device


class TensorCache:
    """Values by name: tensors, alone or in lists, tuples and tables, whose tensors are given back as they were.

    With a file, nothing of a tensor stays in memory but what the system keeps of the file as long as it has room.
    Without one, or once it is full or fails (a full disk), values are kept in memory; those longest unused make room.

    Args:
        folder: where the file is made; None for memory alone.
        budget: bytes of values that are kept in memory, where the file does not take them.
        most: bytes that the file may take.
    """

    def __init__(self, folder: Path | None = None, budget: int = MEMORY_BUDGET, most: int = MOST_ON_DISK) -> None:
        self._folder: Any = folder
        self._budget = budget
        self._most = most
        self._placed: dict[Hashable, Any] = {}
        self._memory: dict[Hashable, tuple[Any, int]] = {}
        self._used = 0
        self._end = 0
        self._writable = False
        self._file: Any = None
        if folder is not None:
            with contextlib.suppress(OSError):
                # Unbuffered: a full disk is to be noticed by the very value that no longer fits.
                self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115
                self._writable = True

    def values(self, names: Sequence[Name], make: Callable[[list[Name]], Iterable[Any]]) -> list[Any]:
        """The value of each name; `make` makes those that are not there, all at once."""
        found = {name: value for name in dict.fromkeys(names) if (value := self._find(name)) is not None}
        missing = [name for name in dict.fromkeys(names) if name not in found]
        if missing:
            for name, value in zip(missing, make(missing), strict=True):
                found[name] = value
                self._keep(name, value)
        return [found[name] for name in names]

    def prepare(self, names: Sequence[Name], make: Callable[[list[Name]], Iterable[Any]]) -> None:
        """Has those made that are not there; none where the file takes no more: they would make room for each other."""
        missing = [name for name in dict.fromkeys(names) if name not in self._placed and name not in self._memory]
        if missing and self._writable:
            for name, value in zip(missing, make(missing), strict=True):
                self._keep(name, value)

    def close(self) -> None:
        """Lets go of the file and of all values."""
        if self._file is not None:
            self._file.close()
        self._file, self._writable = None, False
        self._placed.clear()
        self._memory.clear()
        self._used = 0

    def _find(self, name: Hashable) -> Any:
        if name in self._memory:
            self._memory[name] = self._memory.pop(name)
            return self._memory[name][0]
        if name in self._placed:
            try:
                return tree_map(self._read, self._placed[name])
            except OSError:
                del self._placed[name]
        return None

    def _keep(self, name: Hashable, value: Any) -> None:
        size = sum(leaf.nbytes for leaf in tree_leaves(value) if isinstance(leaf, Tensor))
        if self._writable:
            try:
                if self._end + size > self._most or shutil.disk_usage(self._folder).free < LEFT_FREE:
                    raise OSError("the room is left to others")
                self._placed[name] = tree_map(self._write, value)
                return
            except OSError:
                self._writable = False
        while self._memory and self._used + size > self._budget:
            self._used -= self._memory.pop(next(iter(self._memory)))[1]
        self._memory[name] = (value, size)
        self._used += size

    def _write(self, leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        data = leaf.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        place = _Place(self._end, len(data), leaf.dtype, leaf.shape, leaf.device)
        self._file.seek(self._end)
        write_all(self._file, data)
        self._end += len(data)
        return place

    def _read(self, leaf: Any) -> Any:
        if not isinstance(leaf, _Place):
            return leaf
        data = torch.empty(leaf.bytes, dtype=torch.uint8)
        self._file.seek(leaf.start)
        rest = memoryview(data.numpy())
        while rest:
            count = self._file.readinto(rest)
            if not count:
                raise OSError("the file is shorter than it was")
            rest = rest[count:]
        return data.view(leaf.dtype).reshape(leaf.shape).to(leaf.device)
