"""Draws the pictures of a run as they are needed, and keeps them in its folder."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

import torch

from ...engines.denoiser import Denoiser
from ...engines.micro_batches import MicroBatches
from ...runs.kept_latents import NONE_KEPT, KeptLatents
from ...runs.run_folder import RunFolder
from ...runs.tensor_store import TensorStore
from ..parallel.shared_work import in_turn, mask, shared
from ..parallel.team import ALONE, Team
from ..progress import Callbacks, Progress
from ..settings import TrainingSettings
from .pairs import TrainingPairs
from .pictures import Pictures, draw_pictures

DRAWN_AT_ONCE = 2
"""Pictures are drawn this many batches at a time: without gradients they need less memory."""


def first_shard(pairs: TrainingPairs, settings: TrainingSettings, team: Team = ALONE) -> list[int]:
    """The pictures that are drawn before anything is learned; all of them where processes learn together."""
    if team.count > 1:
        return list(range(len(pairs.drawn)))
    if not settings.denoiser_steps:
        return []
    return [index for index, shard in enumerate(pairs.shards) if shard == 0]


class DrawnPictures:
    """Draws the pictures of a run as they are needed; those that a run of before has drawn are not drawn again.

    Attributes:
        first: see `first_shard`.
        of: how much the whole run is, see `Progress`.
        pictures: of all pairs, drawn or not.
        seconds: that drawing has taken.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        settings: TrainingSettings,
        pairs: TrainingPairs,
        folder: RunFolder,
        callbacks: Callbacks,
        team: Team,
        kept: KeptLatents = NONE_KEPT,
        prompts: int = 0,
    ) -> None:
        self.first = first_shard(pairs, settings, team)
        latents = shared_tensors(denoiser, folder, team, "pictures", len(pairs.drawn), "drawn", precious=True)
        self.pictures = Pictures(latents, pairs.drawn)
        self.seconds = 0.0
        self._denoiser = denoiser
        self._seed = settings.seed
        self._folder = folder
        self._report = callbacks.report
        self._team = team
        self._kept = kept if team.count == 1 else NONE_KEPT
        self.of = stages_of(self.first, settings, prompts)
        self._micro_batches = MicroBatches(denoiser, DRAWN_AT_ONCE * settings.batch_size, callbacks.check)

    @property
    def seconds_a_picture(self) -> float:
        """What drawing one took in this process, about."""
        return self.seconds / max(1, len(self.first))

    def lacks(self, indices: Iterable[int]) -> bool:
        """Whether any of these has not been drawn yet."""
        return any(index not in self.pictures.latents for index in indices)

    def draw(self, indices: Sequence[int], so_far: Progress | None = None) -> None:
        """Draws those of these that there are not yet; outside `Denoiser.gradients`.

        Args:
            so_far: how far the run is, where it has come beyond drawing its first pictures.
        """
        began = time.monotonic()
        latents = self.pictures.latents

        def report(drawn: int) -> None:
            self._folder.save("drawn", {"known": mask(latents)}, {})
            self._report(so_far or Progress(min(drawn, self.of[0]), 0, 0, self.of))

        draw_pictures(
            self._denoiser,
            self.pictures.pairs,
            self._seed,
            self._micro_batches,
            latents,
            report,
            self._team,
            indices,
            self._kept,
        )
        self.seconds += time.monotonic() - began


def stages_of(first: Sequence[int], settings: TrainingSettings, prompts: int) -> tuple[int, int, int, int]:
    """`Progress.of`: the pictures of the first shard, steps of the warm start, steps, prompts that are read."""
    return len(first), settings.text_steps, settings.denoiser_steps, prompts


def shared_tensors(
    denoiser: Denoiser, folder: RunFolder, team: Team, name: str, count: int, saved: str, **options: bool
) -> TensorStore:
    """Latents in the run's folder that the whole team shares; those are known that were whole when `saved` was."""
    known = known_of(folder, saved) if team.rank == 0 else ()
    shape = denoiser.latent_shape
    return shared(team, in_turn(team, lambda: folder.tensor_store(name, count, shape, known, **options)))


def known_of(folder: RunFolder, name: str) -> list[int]:
    """The rows that were whole when this was saved; what was written later may not be."""
    tensors, _ = folder.load(name) or ({}, {})
    return torch.nonzero(tensors["known"]).flatten().tolist() if "known" in tensors else []
