"""Keeps latents beyond a run, by the model that drew them and by what was asked of it."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from ..prefix.files.storage import SUFFIX, put_whole

MODELS_KEPT = 3
"""Models whose latents are kept, those used last."""

NAME = "latent"


class KeptLatents:
    """Latents `[*shape]` of one model; what the disk does not do is left out without a word, as all can be drawn anew.

    Args:
        root: the folder of all models, made if need be; None to keep nothing.
        model: what the latents follow from beside a prompt and a seed, see `Denoiser.digest`.
        shape: of a latent.
    """

    def __init__(self, root: Path | None, model: str, shape: tuple[int, ...]) -> None:
        self._folder: Path | None = None
        self._shape = torch.Size(shape)
        if root is None:
            return
        with contextlib.suppress(OSError):
            folder = root / hashlib.sha256(model.encode()).hexdigest()[:24]
            folder.mkdir(parents=True, exist_ok=True)
            folder.touch()
            self._folder = folder
            others = sorted(
                (path for path in root.iterdir() if path.is_dir() and path != folder),
                key=lambda path: path.stat().st_mtime,
                reverse=True,
            )
            for path in others[MODELS_KEPT - 1 :]:
                shutil.rmtree(path, ignore_errors=True)

    def __contains__(self, prompt: str) -> bool:
        path = self._path(prompt)
        return path is not None and path.is_file()

    def get(self, prompt: str) -> Tensor | None:
        """The latent of a prompt, if a whole one of this shape is kept."""
        path = self._path(prompt)
        if path is None:
            return None
        try:
            latent = safetensors.torch.load(path.read_bytes())[NAME]
        except (OSError, SafetensorError, KeyError, ValueError):
            return None
        return latent if latent.shape == self._shape and latent.dtype == torch.float32 else None

    def put(self, prompt: str, latent: Tensor) -> None:
        """Keeps a prompt's latent."""
        path = self._path(prompt)
        if path is not None:
            with contextlib.suppress(OSError):
                put_whole(safetensors.torch.save({NAME: latent.float().contiguous()}), path, overwrite=True)

    def _path(self, prompt: str) -> Path | None:
        if self._folder is None:
            return None
        return self._folder / f"{hashlib.sha256(prompt.encode()).hexdigest()[:32]}{SUFFIX}"


NONE_KEPT = KeptLatents(None, "", ())
"""Keeps nothing."""
