"""Says how a denoiser that computes otherwise is to learn what the denoiser itself answers."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass


@dataclass(frozen=True)
class Distillation:
    """What is learned, beside what the pictures themselves say (docs/METHODS.md 8.4).

    The squared distances to the teacher's answer and to the true target, weighed, have the gradient of the one squared
    distance to their weighted mean.

    Attributes:
        altered: opened around predictions of the denoiser that learns; the teacher predicts outside of it, without
            what is learned.
        key: tells this alteration from others; unfinished runs are gone on with by it.
        share: of the teacher's answer in what is wanted; the rest is the target.
    """

    altered: Callable[[], AbstractContextManager[None]]
    key: str
    share: float = 0.75
