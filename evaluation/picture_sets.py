"""Keeps pictures and what was read of them as they come, so that a job can go on where it was.

A picture set's folder is named by a digest of all that its pictures follow from (model, sampler, prefix, prompts,
noises), so that what is in it is never taken for another's. Its pictures lie there as latents, and what was read of
them in one file for each micro-batch: what is saved after a micro-batch does not grow with those before.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..engines.denoiser import Denoiser
from ..engines.micro_batches import MicroBatches
from ..faces.pictures import pictures_of
from ..faces.recognizer import Recognizer
from ..prefix import Prefix, seal
from ..runs.digest import digest_of
from ..runs.run_folder import RunFolder, run_key
from .picture_requests import PictureRequest
from .readings import Readings, joined, read
from .settings import PROTOCOL_VERSION

KEPT = 24
"""Picture sets that outlive a job at least, the youngest."""

DRAWN, READ = "drawn", "read"


@dataclass(frozen=True)
class EvaluationContext:
    """What every picture set is made with.

    Attributes:
        tick: called with the number of pictures that were drawn, read or compared; may raise to break off.
        runs: the folder of all picture sets; None to keep nothing.
        picture_sets: how many this job has.
    """

    denoiser: Denoiser
    recognizer: Recognizer
    micro_batches: MicroBatches
    tick: Callable[[int], None]
    runs: Path | None
    picture_sets: int


class PictureSet:
    """The pictures of a list of picture requests; `trouble` says why they could not be kept, if so."""

    def __init__(
        self, context: EvaluationContext, requests: Sequence[PictureRequest], prefix: Prefix | None, folder: RunFolder
    ) -> None:
        self.requests = tuple(requests)
        self._context = context
        self._vectors = None if prefix is None else prefix.parameters
        self._folder = folder
        _, table = folder.load(DRAWN) or ({}, {})
        self._latents = folder.tensor_store(
            "latents",
            len(requests),
            context.denoiser.latent_shape,
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
            some = [self.requests[index] for index in indices]
            latents = self._context.denoiser.sample(
                [request.prompt for request in some], [request.seed for request in some], self._vectors
            )
            for index, latent in zip(indices, latents, strict=True):
                self._latents.put(index, latent)
            self._folder.save(DRAWN, {}, {"count": indices[-1] + 1})
            self._context.tick(len(indices))

        drawn = len(self._latents.known())
        self._context.tick(drawn)
        self._context.micro_batches.work(draw, range(drawn, len(self.requests)))

    def read(self) -> Readings:
        """What the recognizer sees in them; what it saw before is not looked at again."""
        decoded = digest_of(torch.from_numpy(self.pictures([0])).float())  # Tells one decoder from another.
        key = run_key(recognizer=self._context.recognizer.name, decoded=decoded)
        parts = list(self._kept(key))
        read_before = sum(map(len, parts))
        self._context.tick(read_before)

        def look(indices: Sequence[int]) -> None:
            descriptions = [self.requests[index].description for index in indices]
            parts.append(read(self._context.recognizer, self.pictures(indices), descriptions))
            self._folder.save(_name(key, indices[0]), parts[-1].tensors(), {})
            self._context.tick(len(indices))

        self._context.micro_batches.work(look, range(read_before, len(self.requests)))
        return joined(parts)

    def _kept(self, key: str) -> Iterator[Readings]:
        """What was read before, micro-batch by micro-batch from the first picture on."""
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
            return pictures_of(self._context.denoiser.decode(latents), self.requests[indices[0]].prompt)


def _name(key: str, start: int) -> str:
    """Of the file with what was read from this picture on."""
    return f"{READ}-{key}-{start}"


@contextmanager
def open_picture_set(
    context: EvaluationContext, requests: Sequence[PictureRequest], prefix: Prefix | None
) -> Iterator[PictureSet]:
    """A picture set, with what is kept of it already."""
    key = run_key(
        protocol=PROTOCOL_VERSION,
        model=context.denoiser.digest,
        prefix=None if prefix is None else seal(prefix.parameters, {}),
        shots=[dataclasses.astuple(request) for request in requests],
    )
    with RunFolder(context.runs, key, max(KEPT, context.picture_sets)) as folder:
        yield PictureSet(context, requests, prefix, folder)
