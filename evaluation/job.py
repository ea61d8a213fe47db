"""Without this module the paper's evaluation would be a page of instructions: draws, reads and scores, in one job."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from ..faces.gallery import Gallery
from ..faces.recognizer import Recognizer, Report
from ..prefix import Prefix
from ..trainer.denoiser import Denoiser
from ..trainer.identities import Identity
from .quality import Quality
from .results import Evaluation
from .settings import EvaluationSettings

Decode = Callable[[Tensor], Tensor]
"""Makes pictures `[B, height, width, 3]` in 0 to 1 of latents as `Denoiser.sample` returns them."""

DEFAULTS = EvaluationSettings()


def evaluate(
    denoiser: Denoiser,
    decode: Decode,
    recognizer: Recognizer,
    identities: Sequence[Identity],
    prefixes: Mapping[str, Prefix],
    settings: EvaluationSettings = DEFAULTS,
    *,
    drawing: Mapping[str, Any],
    gallery: Gallery | None = None,
    quality: Quality | None = None,
    runs: Path | None = None,
    report: Report = lambda done, total: None,
) -> Evaluation:
    """Scores the plain model ("none") and prefixes on the same prompts and noises, side by side (METHODS.md 1.6, 1.8).

    Args:
        denoiser: draws the pictures, by its own sampler.
        decode: see `Decode`.
        recognizer: finds and compares faces; if it `Knows` people or `SeesLooks`, it is asked for that too.
        identities: people whom the prefixes were, better, not learned on.
        prefixes: by the name that each is to have in the table; none measures the plain model alone.
        drawing: sampler, steps and guidance of the denoiser, JSON values, to be told beside the figures.
        gallery: faces of the people, by their place in `identities`. For people who are not in it the recognizer is
            asked, and else pictures that the plain model draws of them in other noise stand in.
        quality: what measures CLIP score, FID and KID; None leaves them out.
        runs: the folder in which pictures and readings are kept as they come, so that whatever breaks the job off, the
            same call goes on where it was, and a further prefix costs its own pictures only; None keeps nothing.
        report: called with what is done and all there is to do after every few pictures; may raise to break off.

    Raises:
        MeasurementError: the recognizer or the quality meters cannot run, or there is nobody to measure.
        PrefixMismatchError: a prefix does not fit the denoiser's text encoders.
    """
    raise NotImplementedError
