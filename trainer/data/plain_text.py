"""Encodes prompts without a prefix, each once, for targets, the warm start and the judgement of layers."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ...engines.denoiser import Conditioning, Denoiser, Layer
from ...runs.tensor_cache import TensorCache

Spoken = tuple[str, Layer]
"""A prompt and the layer that it is read at."""


class PlainText:
    """What the text encoders make of prompts without a prefix; each is encoded once, as long as the cache has room.

    A prompt is encoded alone, so that not even the last bit depends on what else was asked for.
    """

    def __init__(self, denoiser: Denoiser, tensor_cache: TensorCache | None = None) -> None:
        self._denoiser = denoiser
        self._tensor_cache = tensor_cache or TensorCache()

    @torch.no_grad()
    def of(self, prompts: Sequence[str], layers: Sequence[Layer] | None = None) -> Conditioning:
        """Their conditionings, read at layers as in `Denoiser.encode`; inside `Denoiser.gradients` only."""
        if layers is None:
            layers = [self._denoiser.layers[0]] * len(prompts)
        return self._tensor_cache.values(list(zip(prompts, layers, strict=True)), self._encode)

    @torch.no_grad()
    def prepare(self, prompts: Sequence[Spoken]) -> None:
        """Encodes them ahead, where all can be kept; inside `Denoiser.gradients` only."""
        self._tensor_cache.prepare(prompts, self._encode)

    def _encode(self, prompts: Sequence[Spoken]) -> Conditioning:
        return [entry for prompt, layer in prompts for entry in self._denoiser.encode([prompt], layers=[layer])]
