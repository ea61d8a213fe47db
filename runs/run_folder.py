"""Keeps a run's folder: its snapshot, its pictures and its targets.

A run's folder is named by a digest of everything that the result follows from, so that a changed model, prompt or
setting never meets what was computed for another. It exists while the run is unfinished, and longer where
whoever runs it says so. A lock, which the system drops with the process, keeps two processes out of one folder.
Whatever goes wrong with the disk, the run itself goes on.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import IO, Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..prefix.files.storage import SUFFIX, put_whole
from .tensor_cache import TensorCache
from .tensor_store import TensorStore

TABLE = "run"
DONE = "done"
"""File in the folder of a run that is done; such runs make room for unfinished ones."""
LOCK = "lock"
"""The file that keeps two processes out of one folder."""
KEPT_UNFINISHED = 3
"""Unfinished runs that are kept, the youngest ones; older ones are removed when a run starts."""


def run_key(**parts: Any) -> str:
    """The name of a run: a digest of everything that it follows from, JSON values and dataclasses of them."""
    text = json.dumps(parts, sort_keys=True, default=dataclasses.asdict)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


class RunFolder:
    """Where one run keeps what shall outlive its process; `trouble` says, in words for the artist, why it cannot.

    Args:
        root: the folder of all runs, made if need be; None to keep nothing.
        key: see `run_key`.
        kept: how many runs, this one included, that nobody works at outlive the start of this one: the youngest.
        owner: whether this process owns the folder; of several that share one, the first does, before the others come.
    """

    def __init__(self, root: Path | None, key: str, kept: int = KEPT_UNFINISHED, owner: bool = True) -> None:
        self._owner = owner
        self._root, self._kept = root, kept
        self.trouble = ""
        self.path = None if root is None else root / key
        self._lock: IO[bytes] | None = None
        self._tensor_stores: list[TensorStore] = []
        self._tensor_caches: list[TensorCache] = []
        if root is not None and self.path is not None:
            try:
                if owner:
                    self.path.mkdir(parents=True, exist_ok=True)
                    self._lock = _locked(self.path)
                    (self.path / DONE).unlink(missing_ok=True)
                    self.path.touch()
                elif not self.path.is_dir():
                    raise OSError("the first process's folder cannot be seen from here")
            except OSError as error:
                self._give_up(error)

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def tensor_store(
        self, name: str, count: int, shape: Iterable[int], known: Iterable[int] = (), **options: Any
    ) -> TensorStore:
        """The rows of a file of this folder; see `TensorStore`."""
        self._make_room()
        path = self.path / f"{name}{SUFFIX}" if self.path is not None else None
        tensor_store = TensorStore(count, shape, path, known, on_failure=self._give_up, **options)
        self._tensor_stores.append(tensor_store)
        return tensor_store

    def tensor_cache(self) -> TensorCache:
        """A cache in this folder, for as long as it is open."""
        self._make_room()
        self._tensor_caches.append(TensorCache(self.path))
        return self._tensor_caches[-1]

    def save(self, name: str, tensors: Mapping[str, Tensor], table: Mapping[str, Any]) -> None:
        """Replaces what was saved under a name, whole or not at all. Rows it speaks of must have been put.

        Only the owner writes; others make sure of the rows that they have put.
        """
        if self.path is None:
            return
        for tensor_store in self._tensor_stores:
            tensor_store.sync()
        if not self._owner:
            return
        self._make_room()
        data = safetensors.torch.save(dict(tensors), metadata={TABLE: json.dumps(table)})
        try:
            put_whole(data, self.path / f"{name}{SUFFIX}", overwrite=True)
        except OSError as error:
            self._give_up(error)

    def _make_room(self) -> None:
        """Removes old runs before anything is kept of this one; one that is refused at once pushes none out."""
        if self._owner and self._root is not None and self.path is not None:
            _remove_old(self._root, self.path, self._kept)
        self._root = None

    def load(self, name: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """What was last saved under a name, or None. A file that is not whole counts as none."""
        if self.path is None:
            return None
        try:
            # The host runs nodes in inference mode, where the optimizer could not go on with what was read.
            with torch.inference_mode(False), safe_open(self.path / f"{name}{SUFFIX}", "pt") as file:
                tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
                return tensors, json.loads(file.metadata()[TABLE])
        except (OSError, SafetensorError, ValueError, KeyError, TypeError):
            return None

    def inner(self, name: str) -> Path | None:
        """A folder of runs that are parts of this one, and go with it; None if nothing is kept."""
        return None if self.path is None else self.path / name

    def remove(self, *, is_done: bool = True) -> None:
        """Forgets the run: it is done, or there is nothing to go on with. See `kept_until_written`."""
        path, done, stores = self.path, _DONE.get(), list(self._tensor_stores)
        self.close()
        if path is None or not self._owner:
            return
        if not is_done or done is None:
            shutil.rmtree(path, ignore_errors=True)
        elif done.forgotten:
            done.folders.append(path)
        else:
            for store in stores:
                store.remove_if_computed()
            with contextlib.suppress(OSError):
                (path / DONE).touch()

    def close(self) -> None:
        """Lets go of all files, which stay."""
        for tensor_store in self._tensor_stores:
            tensor_store.close()
        for tensor_cache in self._tensor_caches:
            tensor_cache.close()
        self._tensor_stores.clear()
        self._tensor_caches.clear()
        if self._lock is not None:
            self._lock.close()
            self._remove_if_nothing_is_kept()
        self._lock = self.path = None

    def _remove_if_nothing_is_kept(self) -> None:
        """A run that was refused at once leaves nothing."""
        if self.path is not None:
            with contextlib.suppress(OSError):
                if {path.name for path in self.path.iterdir()} <= {LOCK}:
                    shutil.rmtree(self.path, ignore_errors=True)

    def _give_up(self, error: OSError) -> None:
        where = self.path
        self.path = None
        if not self.trouble:
            reason = error.strerror or str(error)
            self.trouble = (
                f"Nothing more could be saved during the run ({reason}): it went on in memory, and would start anew"
                f" after a crash. Make room on the disk, or make '{where}' a folder that can be written to."
            )


@dataclasses.dataclass
class _Done:
    """Runs that are done while `kept_until_written` or `kept_once_done` is open.

    Attributes:
        forgotten: whether their folders go at its end.
        folders: those.
    """

    forgotten: bool
    folders: list[Path] = dataclasses.field(default_factory=list)


_DONE: ContextVar[_Done | None] = ContextVar("done", default=None)


@contextmanager
def kept_until_written() -> Iterator[None]:
    """Inside, runs that are done keep their folders, which go when it is left without an error.

    So what could not be written, as the disk was full, need not be made anew.
    """
    done = _Done(forgotten=True)
    token = _DONE.set(done)
    try:
        yield
    finally:
        _DONE.reset(token)
    for path in done.folders:
        with contextlib.suppress(OSError):
            _locked(path).close()
            shutil.rmtree(path, ignore_errors=True)


@contextmanager
def kept_once_done() -> Iterator[None]:
    """Inside, runs that are done keep what cannot be computed again, as long as they are among the youngest.

    So the same run is done at once where its host crashed before what was made was saved.
    """
    token = _DONE.set(_Done(forgotten=False))
    try:
        yield
    finally:
        _DONE.reset(token)


@contextmanager
def saved_if_broken_off(save: Callable[[], None]) -> Iterator[None]:
    """Saves the run if it is broken off in here, be it between steps or in one: that one has changed nothing yet."""
    try:
        yield
    except BaseException:
        save()
        raise


def remove_if_empty(root: Path) -> None:
    """Removes a folder of unfinished runs in which there are none."""
    if root.is_dir() and not any(root.iterdir()):
        root.rmdir()


def _locked(folder: Path) -> IO[bytes]:
    """An open file that is locked until it is closed or the process ends; OSError if another process has it."""
    file = (folder / LOCK).open("ab")
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise OSError("another process does the same run") from error
    return file


def _remove_old(root: Path, mine: Path, kept: int) -> None:
    """Removes all but the youngest runs, first those that are done; those at work are left alone."""
    with contextlib.suppress(OSError):
        others = sorted(
            (path for path in root.iterdir() if path.is_dir() and path != mine),
            key=lambda path: (not (path / DONE).exists(), path.stat().st_mtime),
            reverse=True,
        )
        for path in others[kept - 1 :]:
            with contextlib.suppress(OSError), _locked(path):
                shutil.rmtree(path, ignore_errors=True)
