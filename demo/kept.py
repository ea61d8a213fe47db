"""Keeps what a demo has learned and drawn until it is done, so that one that was broken off goes on where it was.

Everything kept is of the same inputs: the weights, the shipped workflow, the code, the host and torch. With others, or
after a demo that came to its end, nothing of it is used again.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..prefix import put_whole
from ..tools.layout import ROOT, host_folder

CODE = ("demo", "engines", "evaluation", "faces", "nodes", "prefix", "runs", "tools", "trainer", "example_workflows")
"""Folders from which the figures of a demo follow: code, weights, workflows."""

RECORD = "learned.json"


class Kept:
    """What is kept of one demo.

    Args:
        folder: where; what lies there of other inputs is removed.
        inputs: the digest of all that the demo's figures follow from.
    """

    def __init__(self, folder: Path, inputs: str) -> None:
        self._all = folder
        self._folder = folder / inputs
        for other in folder.iterdir() if folder.is_dir() else ():
            if other != self._folder:
                shutil.rmtree(other, ignore_errors=True)
        self._folder.mkdir(parents=True, exist_ok=True)

    def learned(self, prefixes: Path) -> tuple[str, float, int] | None:
        """The prefix that was learned: its file's name, the seconds and the steps it took; None if it is not there.

        Args:
            prefixes: the folder where it was saved.
        """
        try:
            told = json.loads((self._folder / RECORD).read_text(encoding="utf-8"))
            name, seconds, steps = str(told["name"]), float(told["seconds"]), int(told["steps"])
            same = file_digest(prefixes / name) == told["digest"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return (name, seconds, steps) if same else None

    def keep_learned(self, prefixes: Path, name: str, seconds: float, steps: int) -> None:
        """Takes down what was learned."""
        told = {"name": name, "seconds": seconds, "steps": steps, "digest": file_digest(prefixes / name)}
        put_whole(json.dumps(told).encode(), self._folder / RECORD, overwrite=True)

    def pictures(self, key: str, count: int) -> np.ndarray | None:
        """Pictures that were drawn, uint8 [count, height, width, 3]; None if they are not there."""
        try:
            with (self._folder / f"{key}.npy").open("rb") as file:
                pictures = np.lib.format.read_array(file, allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return None
        return pictures if pictures.dtype == np.uint8 and pictures.ndim == 4 and len(pictures) == count else None

    def keep_pictures(self, key: str, pictures: np.ndarray) -> None:
        """Takes down pictures, uint8 [count, height, width, 3]."""
        content = io.BytesIO()
        np.save(content, pictures, allow_pickle=False)
        put_whole(content.getvalue(), self._folder / f"{key}.npy", overwrite=True)

    def done(self) -> None:
        """Removes everything: the demo has come to its end."""
        shutil.rmtree(self._all, ignore_errors=True)


def digest_of_inputs(**more: Any) -> str:
    """A digest of code, weights, workflows, host and torch, and of what else is given, as JSON can tell it."""
    said = hashlib.sha256(json.dumps({**more, "torch": torch.__version__}, sort_keys=True).encode())
    files = [path for name in CODE for path in (ROOT / name).rglob("*") if path.is_file()]
    version = host_folder() / "comfyui_version.py"
    for path in sorted((*files, *([version] if version.is_file() else []))):
        if "__pycache__" not in path.parts:
            said.update(f"{path}\0{file_digest(path)}\0".encode())
    return said.hexdigest()[:32]


def digest_of_graph(graph: Mapping[str, Any], prefix: Path | None) -> str:
    """A digest of a workflow and of the prefix file that it draws with."""
    said = hashlib.sha256(json.dumps(graph, sort_keys=True).encode())
    said.update(b"" if prefix is None else file_digest(prefix).encode())
    return said.hexdigest()[:32]


def file_digest(path: Path) -> str:
    """SHA-256 of a file.

    Raises:
        OSError: it cannot be read.
    """
    said = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            said.update(block)
    return said.hexdigest()
