"""Holds the demo model `classic`, makes others of it that share its text encoder, and draws with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from ...demo.generate import GUIDANCE, SAMPLER, SCHEDULER, STEPS, DemoParts, draw
from ...demo.loader import load_demo_model, load_weights
from ...demo.measuring.measure import interval, make_gallery
from ...demo.measuring.reader import committed_reader
from ...demo.measuring.recognizer import DemoRecognizer
from ...demo.world.renderer import SIZE
from ...engines.denoiser import Denoiser, Vectors
from ...engines.options import Drawing

AT_ONCE = 16
"""Pictures that are drawn together."""


class ClassicDemo:
    """The demo model and whoever looks at its pictures.

    Args:
        steps: that a picture is drawn in.

    Attributes:
        clip: its text encoder.
        denoiser: the model as it is.
        weights: of its denoiser, by name.
        net, gallery: the demo's reader, and the faces of the whole cast and their strangers.
        recognizer: the same reader as a `Recognizer`.
    """

    def __init__(self, steps: int = STEPS) -> None:
        self._steps = steps
        self._model, self.clip, self._vae = load_demo_model()
        self.weights = load_weights("denoiser")
        self.denoiser = self._denoiser(self._model)
        self.net = committed_reader()
        self.gallery = make_gallery(self.net)
        self.recognizer = DemoRecognizer(self.net)

    def with_weights(self, weights: Mapping[str, Tensor]) -> Denoiser:
        """The same model around a denoiser with other weights."""
        from ...demo.model import new_model

        return self._denoiser(new_model(dict(weights)))

    def draw_with_embedding(
        self, prompts: Sequence[str], seeds: Sequence[int], embedding: Vectors, prefix: Vectors | None = None
    ) -> np.ndarray:
        """Pictures uint8 `[n, SIZE, SIZE, 3]` of prompts that begin with an embedding, behind a prefix if there is one.

        Args:
            embedding: `{encoder key: [k, d]}`.
            prefix: its parameters.
        """
        with torch.no_grad():
            self.denoiser.sample([""], [0])  # Has the host load the text encoder.
            said, empty = self.denoiser.encode(prompts, embedding), self.denoiser.encode([""], prefix)
            if prefix is not None:
                said = self.denoiser.encode(prompts, prefix, embedding=embedding)
            states = self.denoiser.states(said)
            (nothing,) = self.denoiser.states(empty)
        return draw(DemoParts(self._model, self.clip, self._vae, self._steps), states, seeds, nothing)

    def _denoiser(self, model: object) -> Denoiser:
        from ...engines.comfy.denoiser import ComfyDenoiser

        drawing = Drawing(self._steps, GUIDANCE, SAMPLER, SCHEDULER)
        made: Denoiser = ComfyDenoiser(model, self.clip, self._vae, (SIZE, SIZE), drawing)
        return made


def drawn(
    denoiser: Denoiser, prompts: Sequence[str], seeds: Sequence[int], prefix: Vectors | None = None
) -> np.ndarray:
    """Pictures uint8 `[n, SIZE, SIZE, 3]`, one for each prompt and seed."""
    parts = []
    for start in range(0, len(prompts), AT_ONCE):
        some = slice(start, start + AT_ONCE)
        latents = denoiser.sample(prompts[some], seeds[some], prefix)
        parts.append((denoiser.decode(latents).clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy())
    return np.concatenate(parts)


def told(hits: Sequence[bool] | np.ndarray) -> str:
    """A share of pictures with Wilson's interval of 95 %, for people."""
    share = float(np.mean(hits)) if len(hits) else float("nan")
    low, high = interval(share, len(hits))
    return f"{share:.3f} ({low:.2f} to {high:.2f})"
