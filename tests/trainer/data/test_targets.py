"""The teacher's answers, computed once and kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from anonymize_faces.trainer.data.pictures import Pair, Pictures
from anonymize_faces.trainer.data.targets import TargetPool

Make = Callable[..., Any]
PAIRS = (Pair("Ada Lovelace", "a woman", True), Pair("a dog", "a dog", False), Pair("", "", False))


def pool_of(denoiser: Any, seed: int = 0) -> TargetPool:
    latents = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    return TargetPool(denoiser, Pictures(latents, PAIRS), noisings=4, seed=seed)


def test_slots_are_told_apart_by_whether_their_picture_names_somebody(
    make_checkpoint: Make, make_denoiser: Make
) -> None:
    pool = pool_of(make_denoiser(make_checkpoint()))
    assert pool.slots(True).tolist() == [0, 1, 2, 3]
    assert pool.slots(False).tolist() == list(range(4, 12))


def test_a_target_is_what_the_model_predicts_for_the_neutral_prompt(checkpoint: Any, make_denoiser: Make) -> None:
    denoiser = make_denoiser(checkpoint)
    with denoiser.gradients(2), torch.no_grad():
        batch = pool_of(denoiser).batch([2, 5])
        expected = denoiser.predict(batch.noised, batch.t, denoiser.encode(["a woman", "a dog"]))
    assert batch.prompts == ("Ada Lovelace", "a dog") and batch.names_somebody.tolist() == [True, False]
    assert torch.equal(batch.predictions, expected)


def test_a_slot_is_noised_alike_whatever_it_is_asked_for_with(make_checkpoint: Make, make_denoiser: Make) -> None:
    denoiser = make_denoiser(make_checkpoint())
    with denoiser.gradients(2):
        one, two = pool_of(denoiser).batch([7, 7, 1]), pool_of(denoiser).batch([1, 7])
        other = pool_of(denoiser, seed=1).batch([1])
    assert torch.equal(one.noised[[2, 0]], two.noised) and torch.equal(one.t[[2, 0]], two.t)
    assert not torch.equal(other.noised[0], two.noised[0])


def test_the_teacher_is_asked_once_for_each_slot(make_checkpoint: Make, make_denoiser: Make) -> None:
    denoiser = make_denoiser(make_checkpoint())
    asked: list[int] = []
    predict = denoiser.predict
    denoiser.predict = lambda noised, t, conditioning: asked.append(len(noised)) or predict(noised, t, conditioning)
    with denoiser.gradients(2):
        pool = pool_of(denoiser)
        first, again = pool.batch([3, 8]), pool.batch([8, 3, 4])
    assert asked == [2, 1]
    assert torch.equal(first.predictions, again.predictions[[1, 0]])
