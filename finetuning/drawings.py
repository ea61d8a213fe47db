"""Keeps drawings under way, in whose states a denoiser learns what it is asked while it draws (docs/METHODS.md 8.4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..engines.clean import clean_latents, signal_and_noise
from ..engines.denoiser import Denoiser
from ..prefix.errors import TrainingError
from ..runs.seeds import generator

EDGE = 1e-3
"""Times nearer to 0 and 1 than this are not asked for."""

SLOTS = 5
"""Drawings under way, for each one that a step goes on with: so many that those of a step have little to do with each
other."""

FEWEST = 0.5
"""A drawing has at least this share of the usual number of steps, and at most all of them: so times differ."""

OWN = 0.5
"""Share of the drawings that go on by what the learning denoiser answers; the others by what it is to answer."""


@dataclass(frozen=True)
class DrawnStates:
    """Where some drawings are.

    Attributes:
        slots: which they are, by place.
        noised: `[n, *latent_shape]`.
        t, later: `[n]`, the time, and the one that the next step leads to; 0 where it is the last.
        captions: of each.
        own: `[n]`, whether it goes on by what the learning denoiser answers.
    """

    slots: tuple[int, ...]
    noised: Tensor
    t: Tensor
    later: Tensor
    captions: tuple[str, ...]
    own: Tensor


class Drawings:
    """Drawings of captions, each at a step of its own; one that is done makes room for the next.

    Each follows from the seed and its number alone, but for the answers that it went on by.

    Args:
        captions: that are drawn.
        steps: that a drawing usually has.
        at_once: drawings that a step of learning goes on with.
        until: time t at which they end.

    Raises:
        TrainingError: there are no captions.
    """

    def __init__(
        self, denoiser: Denoiser, captions: Sequence[str], steps: int, at_once: int, seed: int, until: float = 0.0
    ) -> None:
        if not captions:
            raise TrainingError("There is no prompt to learn from: give at least one.")
        self._denoiser = denoiser
        self._captions = tuple(captions)
        self._steps = steps
        self._at_once = at_once
        self._seed = seed
        self._until = until
        self._count = SLOTS * at_once
        self._numbers = torch.zeros(self._count, dtype=torch.long)
        self._places = torch.zeros(self._count, dtype=torch.long)
        self._noised = torch.zeros(self._count, *denoiser.latent_shape)
        self._begun = 0
        for slot in range(self._count):
            self._begin(slot)

    def begin_apart(self, pictures: Tensor, captions: Sequence[str]) -> None:
        """Has the drawings begin at steps of their own, on the way to these pictures, so that all times come at once.

        Args:
            pictures: latents `[n, *latent_shape]`.
            captions: theirs, some of the drawings' own.
        """
        known = {caption: number for number, caption in enumerate(captions)}
        random = generator(self._seed, "drawings apart")
        for slot in range(self._count):
            times = self._times(int(self._numbers[slot]))
            place = int(torch.randint(len(times), (1,), generator=random))
            which = known.get(self._caption(int(self._numbers[slot])))
            if which is not None:
                self._places[slot] = place
                self._noised[slot] = self._denoiser.add_noise(
                    pictures[which : which + 1], self._noise(int(self._numbers[slot])), times[place : place + 1]
                )[0]

    def states(self, step: int) -> DrawnStates:
        """Where the drawings are that a step of learning, from 0, goes on with."""
        slots = [(step * self._at_once + place) % self._count for place in range(self._at_once)]
        times = [self._times(int(self._numbers[slot])) for slot in slots]
        places = self._places[slots].tolist()
        later = [
            float(found[place + 1]) if place + 1 < len(found) else 0.0
            for found, place in zip(times, places, strict=True)
        ]
        return DrawnStates(
            tuple(slots),
            self._noised[slots],
            torch.stack([found[place] for found, place in zip(times, places, strict=True)]),
            torch.tensor(later),
            tuple(self._caption(int(self._numbers[slot])) for slot in slots),
            torch.tensor([bool(self._random(int(self._numbers[slot]), "own") < OWN) for slot in slots]),
        )

    def go_on(self, states: DrawnStates, answers: Tensor) -> None:
        """Makes a step of each of these drawings.

        Args:
            answers: `[n, *latent_shape]`, guided, as `Denoiser.predict` gives them.
        """
        moved = moved_by(self._denoiser, states.noised, states.t, states.later.clamp_min(EDGE), answers)
        for slot, noised, later in zip(states.slots, moved, states.later.tolist(), strict=True):
            if later <= 0 or not bool(noised.isfinite().all()):
                self._begin(slot)
                continue
            self._noised[slot] = noised
            self._places[slot] += 1

    def tensors(self) -> dict[str, Tensor]:
        """All that changes, for a file."""
        return {
            "noised": self._noised,
            "numbers": self._numbers,
            "places": self._places,
            "begun": torch.tensor([self._begun]),
        }

    def restore(self, tensors: Mapping[str, Tensor]) -> bool:
        """Goes on where `tensors` was called; False, with nothing changed, if it was called of others."""
        own = self.tensors()
        if {name: value.shape for name, value in tensors.items()} != {name: value.shape for name, value in own.items()}:
            return False
        self._noised.copy_(tensors["noised"])
        self._numbers.copy_(tensors["numbers"])
        self._places.copy_(tensors["places"])
        self._begun = int(tensors["begun"])
        return True

    def _begin(self, slot: int) -> None:
        number, self._begun = self._begun, self._begun + 1
        self._numbers[slot], self._places[slot] = number, 0
        noise = self._noise(number)
        self._noised[slot] = self._denoiser.add_noise(torch.zeros_like(noise), noise, self._times(number)[:1])[0]

    def _caption(self, number: int) -> str:
        turn, within = divmod(number, len(self._captions))
        order = torch.randperm(len(self._captions), generator=generator(self._seed, "drawings order", turn))
        return self._captions[int(order[within])]

    def _noise(self, number: int) -> Tensor:
        random = generator(self._seed, "drawings noise", number)
        return torch.randn(1, *self._denoiser.latent_shape, generator=random)

    def _times(self, number: int) -> Tensor:
        """Of the states that the denoiser is asked in, from noise on."""
        fewest = max(1, round(FEWEST * self._steps))
        steps = fewest + int(self._random(number, "steps") * (self._steps - fewest + 1))
        times = (1 - torch.arange(steps) / steps).clamp(EDGE, 1 - EDGE)
        return times[times > min(self._until, 1 - 2 * EDGE)]

    def _random(self, number: int, purpose: str) -> float:
        return float(torch.rand((), generator=generator(self._seed, f"drawings {purpose}", number)))


def moved_by(denoiser: Denoiser, noised: Tensor, t: Tensor, later: Tensor, answers: Tensor) -> Tensor:
    """Where a first-order sampler goes from latents with noise, by what was answered, `[n, *latent_shape]`.

    Args:
        t, later: `[n]`, the time, and the one to go to.
    """
    clean = clean_latents(denoiser, noised, t, answers.to(noised))
    signal, level = (part.view(-1, *[1] * (noised.ndim - 1)).to(noised) for part in signal_and_noise(denoiser, t))
    return denoiser.add_noise(clean, (noised - signal * clean) / level, later)
