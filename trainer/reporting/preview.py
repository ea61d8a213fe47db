"""Draws a few people without and with the prefix, within a budget of the run's time."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ...engines.denoiser import Denoiser, Vectors
from ...prefix.errors import TrainingError, first_line
from ...runs.seeds import derived_seed
from ..data.identities import Identity
from ..data.prompts import OPENINGS, name_prompt

COLUMNS = 4

CORNER, COLOURS = 8, 3
"""Cells of a latent, on a side; numbers of a pixel."""


class BeforeAfter:
    """Up to four people, the upper row without, the lower row with a prefix, each pair from the same noise.

    Args:
        check: called after each row; may raise to stop.

    Attributes:
        people: their names, from left to right.
    """

    def __init__(
        self, denoiser: Denoiser, identities: Sequence[Identity], seed: int, check: Callable[[], None]
    ) -> None:
        shown = identities[:: max(1, len(identities) // COLUMNS)][:COLUMNS]
        self.people = tuple(identity.name for identity in shown)
        self._denoiser = denoiser
        self._prompts = [name_prompt(identity, OPENINGS[2], "") for identity in shown]
        self._seeds = [derived_seed(seed, "preview", index) for index in range(len(shown))]
        self._check = check
        self._plain: Tensor | None = None

    def draw(self, vectors: Vectors) -> Tensor:
        """One picture `[1, 2 * height, n * width, 3]` in 0 to 1; the upper row is drawn once for all calls."""
        if self._plain is None:
            self._plain = self._row(None)
        return torch.cat([self._plain, self._row(vectors)]).unsqueeze(0)

    def try_decoding(self) -> None:
        """Makes a picture of a blank corner, to find out before a run whether pictures can be shown in it.

        Raises:
            TrainingError: they cannot.
        """
        *channels, height, width = self._denoiser.latent_shape
        try:
            made = self._denoiser.decode(torch.zeros(1, *channels, min(CORNER, height), min(CORNER, width)))
            fault = "" if made.shape[-1] == COLOURS else f"it says {made.shape[-1]} numbers of each pixel"
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            if self._denoiser.out_of_memory(error):
                raise
            fault = first_line(error)
        if fault:
            raise TrainingError(
                f"This VAE makes no pictures of what the model draws ({fault}): connect the checkpoint's own VAE."
            )

    def _row(self, vectors: Vectors | None) -> Tensor:
        pictures = self._denoiser.decode(self._denoiser.sample(self._prompts, self._seeds, vectors))
        self._check()
        return torch.cat(pictures.unbind(0), dim=1)


PREVIEW_SHARE = 0.05
"""Share of the time of a run that may go into showing it."""


class PreviewBudget:
    """Shows now and then, as the clock allows; what a run learns does not depend on it.

    Args:
        started: when the run did, by `time.monotonic`.
        picture_seconds: what drawing one picture took.
    """

    def __init__(self, started: float, picture_seconds: float) -> None:
        self._started = started
        self._expected = 2 * COLUMNS * picture_seconds
        self._spent = 0.0

    def show(self, show: Callable[[Vectors], None], vectors: Vectors) -> None:
        """Shows the vectors, if there is time for that."""
        began = time.monotonic()
        if self._spent + self._expected > PREVIEW_SHARE * (began - self._started):
            return
        show(vectors)
        self._expected = time.monotonic() - began
        self._spent += self._expected
