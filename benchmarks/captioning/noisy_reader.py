"""Puts noise into a reader's answers: a reader that is worse, by as much as is wanted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...captions.readers import LooksReader, Probabilities

NOISE = 6.0
"""Spread of the noise in the reader's logits."""


class NoisyReader:
    """Another reader with noise in its logits; each call draws it anew.

    Attributes: see `captions.readers.LooksReader`.
    """

    def __init__(self, reader: LooksReader, seed: int) -> None:
        self.name = f"{reader.name} with noise"
        self.attributes, self.margin, self.batch = reader.attributes, reader.margin, reader.batch
        self._reader, self._rng = reader, np.random.default_rng(seed)

    def read(self, pictures: Sequence[np.ndarray]) -> Probabilities:
        """See `LooksReader`."""
        read = self._reader.read(pictures)
        return {name: with_noise(np.asarray(rows, np.float64), self._rng) for name, rows in read.items()}


def with_noise(probabilities: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Probabilities [n, answers] with noise in their logits."""
    logits = np.log(np.maximum(probabilities, 1e-12)) + rng.normal(0, NOISE, probabilities.shape)
    raised = np.exp(logits - logits.max(1, keepdims=True))
    return raised / raised.sum(1, keepdims=True)
