"""Our trainer against the authors' loop, on the demo model."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from anonymize_faces.benchmarks.support.authors_loop import Item, reference_step
from anonymize_faces.demo.loader import load_demo_model
from anonymize_faces.engines.micro_batches import MicroBatches
from anonymize_faces.runs.seeds import rate_factor
from anonymize_faces.trainer.data.pictures import Pair, Pictures
from anonymize_faces.trainer.data.targets import TargetPool, slots_of_step
from anonymize_faces.trainer.settings import TrainingSettings
from anonymize_faces.trainer.start import start_vectors
from anonymize_faces.trainer.state import new_state
from anonymize_faces.trainer.step import make_step

PAIRS = (
    Pair("A portrait of Alma Orlick", "A portrait of a person with black hair", True),
    Pair("Wanda Pruitt in the city", "a person with brown hair in the city", True),
    Pair("a red circle", "a red circle", False),
    Pair("", "", False),
)
SETTINGS = TrainingSettings(
    conditional=False,
    general_weight=1.0,
    text_steps=0,
    steps=16,
    batch_size=2,
    learning_rate=2.8e-4,
    noisings_per_picture=8,
)


def make_denoiser(model: Any, clip: Any, vae: Any) -> Any:
    from anonymize_faces.engines.comfy.denoiser import ComfyDenoiser

    return ComfyDenoiser(model, clip, vae, (64, 64))


@pytest.mark.usefixtures("host_modules")
def test_the_vectors_follow_the_trajectory_of_the_authors_loop() -> None:
    parts = load_demo_model()
    denoiser = make_denoiser(*parts)
    denoiser.layers = (None,)  # Their loop reads each encoder's usual layer,
    denoiser.unconditional_share = 0.0  # and knows no negative prompts.
    latents = denoiser.sample([pair.student for pair in PAIRS], [1, 2, 3, 4])
    ours, batches = [], []
    with denoiser.gradients(2):
        pool = TargetPool(denoiser, Pictures(latents, PAIRS), SETTINGS.noisings_per_picture, seed=0)
        state = new_state(start_vectors(denoiser, SETTINGS), SETTINGS)
        micro_batches = MicroBatches(denoiser, SETTINGS.batch_size)
        for step in range(SETTINGS.steps):
            batches.append(pool.batch(slots_of_step(pool, SETTINGS.batch_size, SETTINGS.seed, step)))
            make_step(denoiser, state, batches[-1], SETTINGS, micro_batches)
            ours.append(state.vectors["l"].detach().clone())

    model, clip, _ = parts
    neutral = {pair.student: pair.teacher for pair in PAIRS}
    vectors = start_vectors(denoiser, SETTINGS)
    start = vectors["l"].detach().clone()
    (own,) = state.optimizer.param_groups
    optimizer = torch.optim.Adam(vectors.values(), eps=own["eps"])
    sampling = model.get_model_object("model_sampling")
    for step, batch in enumerate(batches):
        optimizer.param_groups[0]["lr"] = own["peak"] * rate_factor(step, SETTINGS.steps, SETTINGS.warmup)
        sigmas = [torch.tensor([float(sampling.percent_to_sigma(1.0 - t))]) for t in batch.t.tolist()]
        items = [
            Item(noised, sigma, prompt, neutral[prompt])
            for noised, sigma, prompt in zip(batch.noised.split(1), sigmas, batch.prompts, strict=True)
        ]
        reference_step(model, clip, vectors, optimizer, items)
        theirs = vectors["l"].detach()
        assert float((ours[step] - theirs).norm() / theirs.norm()) <= 1e-3
    # The way travelled itself agrees, not only where most of it was to begin with.
    moved = theirs - start
    assert float(moved.norm()) > 0.1
    assert float((ours[-1] - theirs).norm() / moved.norm()) <= 0.01
