"""Without this module the teacher would be asked the same again and again: its answers, computed once and kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .data import Pair, Pictures
from .denoiser import Conditioning, Denoiser
from .schedule import stratified_times
from .seeds import generator as seeded


@dataclass(frozen=True, eq=False)
class Target:
    """A noised picture x_t `[*latent_shape]`, its time t, and the teacher's prediction for it `[*latent_shape]`."""

    noised: Tensor
    t: Tensor
    prediction: Tensor


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


class TargetPool:
    """Every picture, noised a few times, with the teacher's predictions, which depend on nothing that is learned.

    Predictions are computed when they are first asked for. Slot `s` of the pool belongs to picture `s // noisings`;
    its time and noise follow from the seed and from s alone.
    """

    def __init__(self, denoiser: Denoiser, pictures: Pictures, noisings: int, seed: int) -> None:
        self._denoiser = denoiser
        self._pictures = pictures
        self._noisings = noisings
        self._seed = seed
        self._times = stratified_times(len(pictures.pairs) * noisings, seeded(seed, "times"))
        self._targets: dict[int, Target] = {}
        self._encoded: dict[str, Conditioning] = {}

    def slots(self, names_somebody: bool) -> Tensor:
        """The slots `[n]` of the pictures that name somebody, or of the others."""
        kinds = torch.tensor([pair.names_somebody for pair in self._pictures.pairs])
        return torch.nonzero(kinds.repeat_interleave(self._noisings) == names_somebody).flatten()

    def batch(self, slots: Sequence[int]) -> Batch:
        """The batch of these slots; asks the teacher for those that were never asked for before."""
        missing = [slot for slot in dict.fromkeys(slots) if slot not in self._targets]
        if missing:
            self._ask_teacher(missing)
        targets = [self._targets[slot] for slot in slots]
        return Batch(
            noised=torch.stack([target.noised for target in targets]),
            t=torch.stack([target.t for target in targets]),
            predictions=torch.stack([target.prediction for target in targets]),
            prompts=tuple(self._pair(slot).student for slot in slots),
            names_somebody=torch.tensor([self._pair(slot).names_somebody for slot in slots]),
        )

    def _pair(self, slot: int) -> Pair:
        return self._pictures.pairs[slot // self._noisings]

    @torch.no_grad()
    def _ask_teacher(self, slots: Sequence[int]) -> None:
        latents = torch.stack([self._pictures.latents[slot // self._noisings] for slot in slots])
        noise = torch.stack([self._noise(slot, latents[0].shape) for slot in slots])
        times = self._times[torch.tensor(slots)]
        prompts = [self._pair(slot).teacher for slot in slots]
        noised = self._denoiser.add_noise(latents, noise, times)
        predictions = self._denoiser.predict(noised, times, self._conditioning(prompts)).to(latents)
        for slot, *target in zip(slots, noised, times, predictions, strict=True):
            self._targets[slot] = Target(*target)

    def _noise(self, slot: int, shape: torch.Size) -> Tensor:
        return torch.randn(shape, generator=seeded(self._seed, "noise", slot))

    def _conditioning(self, prompts: Sequence[str]) -> Conditioning:
        unknown = [prompt for prompt in dict.fromkeys(prompts) if prompt not in self._encoded]
        if unknown:
            self._encoded.update(zip(unknown, self._denoiser.encode(unknown), strict=True))
        return [self._encoded[prompt] for prompt in prompts]
