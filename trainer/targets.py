"""Without this module the teacher would be asked the same again and again: its answers, computed once and kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .data import Pair, Pictures
from .denoiser import Conditioning, Denoiser
from .objective import beyond
from .portions import Portions
from .rows import Rows
from .schedule import stratified_times
from .seeds import generator as seeded

CONDITIONINGS_KEPT = 256
"""Encoded prompts without prefix that are kept; the one longest unused makes room."""


@dataclass(frozen=True, eq=False)
class Batch:
    """What one step learns from.

    Attributes:
        noised: noised pictures x_t, `[B, *latent_shape]`.
        t: their times, `[B]`.
        predictions: the teacher's, `[B, *latent_shape]`.
        prompts: the student's, B of them.
        names_somebody: which of the prompts do, `[B]` bool.
    """

    noised: Tensor
    t: Tensor
    predictions: Tensor
    prompts: tuple[str, ...]
    names_somebody: Tensor

    def part(self, indices: Sequence[int]) -> Batch:
        """The batch of these items alone."""
        chosen = list(indices)
        return Batch(
            self.noised[chosen],
            self.t[chosen],
            self.predictions[chosen],
            tuple(self.prompts[index] for index in chosen),
            self.names_somebody[chosen],
        )


class TargetPool:
    """Every picture, noised a few times, with the teacher's predictions, which depend on nothing that is learned.

    Predictions are computed when they are first asked for. Slot `s` of the pool belongs to picture `s // noisings`;
    its time and noise follow from the seed and from s alone.

    Args:
        predictions: where the teacher's answers are kept, one row a slot.
        portions: how many the teacher is asked at once.
        overshoot: see `objective.beyond`.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        pictures: Pictures,
        noisings: int,
        seed: int,
        predictions: Rows | None = None,
        portions: Portions | None = None,
        overshoot: float = 0.0,
    ) -> None:
        count = len(pictures.pairs) * noisings
        self.predictions = Rows(count, denoiser.latent_shape) if predictions is None else predictions
        self._portions = portions or Portions(denoiser, count)
        self._denoiser = denoiser
        self._pictures = pictures
        self._noisings = noisings
        self._seed = seed
        self._overshoot = overshoot
        self._times = stratified_times(count, seeded(seed, "times"))
        self._encoded: dict[str, Conditioning] = {}
        kinds = torch.tensor([pair.names_somebody for pair in pictures.pairs]).repeat_interleave(noisings)
        self._slots = {kind: torch.nonzero(kinds == kind).flatten() for kind in (True, False)}

    def slots(self, names_somebody: bool) -> Tensor:
        """The slots `[n]` of the pictures that name somebody, or of the others."""
        return self._slots[names_somebody]

    def prepare(self, slots: Sequence[int]) -> None:
        """Asks the teacher for these slots, and keeps the answers."""

        def ask(portion: Sequence[int]) -> None:
            for slot, answer in zip(portion, self._ask_teacher(portion), strict=True):
                self.predictions.put(slot, answer)

        self._portions.work(ask, slots)

    def names_somebody(self, slots: Sequence[int]) -> Tensor:
        """Which of the slots' pictures do, `[n]` bool."""
        return torch.tensor([self._pair(slot).names_somebody for slot in slots], dtype=torch.bool)

    def batch(self, slots: Sequence[int]) -> Batch:
        """The batch of these slots; asks the teacher for those that were never asked for before."""
        unique = list(dict.fromkeys(slots))
        answers = {slot: self.predictions[slot] for slot in unique if slot in self.predictions}
        missing = [slot for slot in unique if slot not in answers]
        for slot, answer in zip(missing, _joined(self._portions.work(self._ask_teacher, missing)), strict=True):
            self.predictions.put(slot, answer)
            answers[slot] = answer
        noised, times = self._noised(slots)
        return Batch(
            noised=noised,
            t=times,
            predictions=torch.stack([answers[slot] for slot in slots]),
            prompts=tuple(self._pair(slot).student for slot in slots),
            names_somebody=self.names_somebody(slots),
        )

    def _pair(self, slot: int) -> Pair:
        return self._pictures.pairs[slot // self._noisings]

    def _noised(self, slots: Sequence[int]) -> tuple[Tensor, Tensor]:
        latents = torch.stack([self._pictures.latents[slot // self._noisings] for slot in slots])
        noise = torch.stack([self._noise(slot, latents[0].shape) for slot in slots])
        times = self._times[torch.tensor(slots)]
        return self._denoiser.add_noise(latents, noise, times), times

    @torch.no_grad()
    def _ask_teacher(self, slots: Sequence[int]) -> Tensor:
        """The teacher's predictions; past them for who is named, see `objective.beyond`."""
        noised, times = self._noised(slots)
        answers = self._predict(noised, times, [self._pair(slot).teacher for slot in slots])
        named = [index for index, slot in enumerate(slots) if self._pair(slot).names_somebody]
        if named and self._overshoot:
            prompts = [self._pair(slots[index]).student for index in named]
            plain = self._predict(noised[named], times[named], prompts)
            answers[named] = beyond(answers[named], plain, self._overshoot)
        return answers

    def _predict(self, noised: Tensor, times: Tensor, prompts: Sequence[str]) -> Tensor:
        conditioning = [self._conditioning(prompt) for prompt in prompts]
        return self._denoiser.predict(noised, times, conditioning).float().cpu()

    def _noise(self, slot: int, shape: torch.Size) -> Tensor:
        return torch.randn(shape, generator=seeded(self._seed, "noise", slot))

    def _conditioning(self, prompt: str) -> Conditioning:
        """Encoded alone, so that the last bit does not depend on what else was asked for."""
        if prompt in self._encoded:
            entry = self._encoded.pop(prompt)
        else:
            (entry,) = self._denoiser.encode([prompt])
            while len(self._encoded) >= CONDITIONINGS_KEPT:
                self._encoded.pop(next(iter(self._encoded)))
        self._encoded[prompt] = entry
        return entry


def deal(slots: Tensor, count: int, seed: int, purpose: str, start: int) -> list[int]:
    """Items `start` to `start + count` of an endless deal in which every slot comes once before any comes again.

    It follows from the arguments alone, so that a run can go on anywhere. Each round is shuffled anew.
    """
    dealt: list[int] = []
    while len(dealt) < count:
        round_number, offset = divmod(start + len(dealt), len(slots))
        order = torch.randperm(len(slots), generator=seeded(seed, purpose, round_number))
        dealt += slots[order[offset : offset + count - len(dealt)]].tolist()
    return dealt


def slots_of_step(pool: TargetPool, batch_size: int, seed: int, step: int) -> list[int]:
    """The slots of a step (from 0): half of them name somebody; an odd one out is of either kind in turn."""
    odd = batch_size % 2
    names = batch_size // 2 + (odd if step % 2 == 0 else 0)
    before = step * (batch_size // 2) + odd * ((step + 1) // 2)
    others_before = step * batch_size - before
    return deal(pool.slots(True), names, seed, "named", before) + deal(
        pool.slots(False), batch_size - names, seed, "general", others_before
    )


def _joined(parts: Sequence[Tensor]) -> Sequence[Tensor]:
    return torch.cat(list(parts)).unbind(0) if parts else ()
