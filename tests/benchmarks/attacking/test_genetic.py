"""Shows that a prompt is found which says more of a name than words drawn at random do, and the same one each time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from anonymize_faces.benchmarks.attacking import genetic
from anonymize_faces.benchmarks.attacking.tokens import Vocabulary
from anonymize_faces.benchmarks.attacking.vectors import Budget

WORDS = ("a", "red", "circle", "portrait", "of", "man", "house", "snow", "dog", "cat", "tree", "road")


def test_each_generation_is_nearer_and_the_seed_decides(
    make_checkpoint: Callable[..., Any], make_denoiser: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(genetic, "POPULATION", 12)
    monkeypatch.setattr(genetic, "KEPT", 4)
    denoiser = make_denoiser(make_checkpoint())
    vocabulary = Vocabulary(denoiser, WORDS)

    def apart(text: str) -> float:
        with denoiser.gradients(1), torch.no_grad():
            target = genetic._target(denoiser, "red dog")
            return float((genetic._states(denoiser, text) - target).square().mean())

    found = [genetic.genetic_words(denoiser, "red dog", vocabulary, Budget(4, steps)) for steps in (0, 12)]
    assert apart(found[1]) < apart(found[0])
    assert len(found[1].split()) == 4 and set(found[1].split()) <= set(WORDS)
    assert genetic.genetic_words(denoiser, "red dog", vocabulary, Budget(4, 12)) == found[1]
