"""What is mixed in against forgetting: the model's own pictures of prompts that are not learned."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from anonymize_faces.finetuning.general import AT_ONCE, general_set, mixed
from anonymize_faces.finetuning.training_set import TrainingSet
from anonymize_faces.prefix import TrainingError

Make = Callable[..., Any]
PROMPTS = ("a red circle", "a house")


def test_the_models_own_pictures_of_prompts_are_mixed_in(make_checkpoint: Make, make_denoiser: Make) -> None:
    denoiser, told = make_denoiser(make_checkpoint()), []
    with torch.inference_mode():
        general = general_set(denoiser, PROMPTS, AT_ONCE + 1, 5, lambda done, of: told.append((done, of)))
        again = general_set(denoiser, PROMPTS, AT_ONCE + 1, 5)
    assert general.captions[:3] == ("a red circle", "a house", "a red circle")
    assert general.digest == again.digest and told == [(AT_ONCE, AT_ONCE + 1), (AT_ONCE + 1, AT_ONCE + 1)]
    assert len({picture.numpy().tobytes() for picture in general.latents}) == AT_ONCE + 1, "each has its own seed"
    both = mixed(TrainingSet(torch.zeros(2, *denoiser.latent_shape), ("a", "b")), general)
    assert both.captions == ("a", "b", *general.captions) and torch.equal(both.latents[2:], general.latents)


def test_no_prompts_are_an_error(make_checkpoint: Make, make_denoiser: Make) -> None:
    with pytest.raises(TrainingError, match="0 captions"):
        general_set(make_denoiser(make_checkpoint()), (), 4)
