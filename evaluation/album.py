"""Without this module a job of hours would be lost with the process: pictures and readings that are kept as they come.

An album's folder is named by a digest of all that its pictures follow from (model, sampler, prefix, prompts, noises),
so that what is in it is never taken for another's. Its pictures lie there as latents, and what was read of them in one
file for each portion: what is saved after a portion does not grow with those before.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..faces.pictures import pictures_of
from ..faces.recognizer import Recognizer
from ..prefix import Prefix, seal
from ..trainer.denoiser import Denoiser
from ..trainer.digest import digest_of
from ..trainer.portions import Portions
from ..trainer.run_folder import RunFolder, run_key
from .readings import Readings, joined, read
from .settings import PROTOCOL_VERSION
from .shots import Shot

KEPT = 24
"""Albums that outlive a job at least, the youngest."""

DRAWN, READ = "drawn", "read"

Decode = Callable[[Tensor], Tensor]
"""Makes pictures `[B, height, width, 3]` in 0 to 1 of latents as `Denoiser.sample` returns them."""


@dataclass(frozen=True)
class Studio:
    """What every album is made with.

    Attributes:
        tick: called with the number of pictures that were drawn, read or compared; may raise to break off.
        runs: the folder of all albums; None to keep nothing.
        albums: how many this job has.
    """

    denoiser: Denoiser
    decode: Decode
    recognizer: Recognizer
    portions: Portions
    tick: Callable[[int], None]
    runs: Path | None
    albums: int


class Album:
    """The pictures of a list of shots; `trouble` says why they could not be kept, if so."""

    def __init__(self, studio: Studio, shots: Sequence[Shot], prefix: Prefix | None, folder: RunFolder) -> None:
        self.shots = tuple(shots)
        self._studio = studio
        self._vectors = None if prefix is None else prefix.vectors
        self._folder = folder
        _, table = folder.load(DRAWN) or ({}, {})
        self._latents = folder.rows(
            "latents",
            len(shots),
            studio.denoiser.latent_shape,
            range(table.get("count", 0)),
            precious=True,
        )

    @property
    def trouble(self) -> str:
        """See the class."""
        return self._folder.trouble

    def draw(self) -> None:
        """Draws what is not there yet."""

        def draw(indices: Sequence[int]) -> None:
            some = [self.shots[index] for index in indices]
            latents = self._studio.denoiser.sample(
                [shot.prompt for shot in some], [shot.seed for shot in some], self._vectors
            )
            for index, latent in zip(indices, latents, strict=True):
                self._latents.put(index, latent)
            self._folder.save(DRAWN, {}, {"count": indices[-1] + 1})
            self._studio.tick(len(indices))

        drawn = len(self._latents.known())
        self._studio.tick(drawn)
        self._studio.portions.work(draw, range(drawn, len(self.shots)))

    def read(self) -> Readings:
        """What the recognizer sees in them; what it saw before is not looked at again."""
        decoded = digest_of(torch.from_numpy(self.pictures([0])).float())  # Tells one decoder from another.
        key = run_key(recognizer=self._studio.recognizer.name, decoded=decoded)
        parts = list(self._kept(key))
        read_before = sum(map(len, parts))
        self._studio.tick(read_before)

        def look(indices: Sequence[int]) -> None:
            descriptions = [self.shots[index].description for index in indices]
            parts.append(read(self._studio.recognizer, self.pictures(indices), descriptions))
            self._folder.save(_name(key, indices[0]), parts[-1].tensors(), {})
            self._studio.tick(len(indices))

        self._studio.portions.work(look, range(read_before, len(self.shots)))
        return joined(parts)

    def _kept(self, key: str) -> Iterator[Readings]:
        """What was read before, portion by portion from the first picture on."""
        start = 0
        while kept := self._folder.load(_name(key, start)):
            part = Readings.from_tensors(kept[0])
            yield part
            start += len(part)

    def pictures(self, indices: Sequence[int]) -> np.ndarray:
        """Some of them, uint8 [n, height, width, 3].

        Raises:
            MeasurementError: the model drew values that are no numbers.
        """
        latents = torch.stack([self._latents[index] for index in indices])
        with torch.no_grad():
            return pictures_of(self._studio.decode(latents), self.shots[indices[0]].prompt)


def _name(key: str, start: int) -> str:
    """Of the file with what was read from this picture on."""
    return f"{READ}-{key}-{start}"


@contextmanager
def opened(studio: Studio, shots: Sequence[Shot], prefix: Prefix | None) -> Iterator[Album]:
    """An album, with what is kept of it already."""
    key = run_key(
        protocol=PROTOCOL_VERSION,
        model=studio.denoiser.digest,
        prefix=None if prefix is None else seal(prefix.vectors, {}),
        shots=[dataclasses.astuple(shot) for shot in shots],
    )
    with RunFolder(studio.runs, key, max(KEPT, studio.albums)) as folder:
        yield Album(studio, shots, prefix, folder)
