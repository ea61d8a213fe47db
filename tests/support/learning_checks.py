"""Checks that an engine learns: the same task for tiny models of all kinds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from anonymize_faces.engines.micro_batches import MicroBatches
from anonymize_faces.prefix.meta_network import part_name, vectors_of, with_open_gates
from anonymize_faces.trainer.data.pictures import Pair, Pictures
from anonymize_faces.trainer.data.targets import TargetPool, slots_of_step
from anonymize_faces.trainer.objective import distances
from anonymize_faces.trainer.settings import TrainingSettings
from anonymize_faces.trainer.start import start_vectors
from anonymize_faces.trainer.state import new_state
from anonymize_faces.trainer.step import make_step

PAIRS = (
    Pair("Ada Lovelace", "a woman with dark hair", True),
    Pair("Bob Miller smiling", "a man smiling", True),
    Pair("a red circle", "a red circle", False),
    Pair("", "", False),
)
NOISINGS = 2
BATCH = 4
LOOK_EVERY = 10
"""Steps after which the loss is looked at."""


def learning(**more: Any) -> TrainingSettings:
    """Settings with which every family learns `PAIRS`."""
    sizes = {"vectors": 8, "steps": 90, "batch_size": BATCH, "noisings_per_picture": NOISINGS, "text_steps": 0}
    rate = 0.05 if more.get("conditional") is False else 0.003
    return TrainingSettings(**{"learning_rate": rate, **sizes, **more})


def require_to_learn(denoiser: Any, settings: TrainingSettings, widths: Mapping[str, int]) -> None:
    """Within the settings' steps the loss is halved, every vector of every encoder moves, and so does a picture."""
    latents = torch.randn(len(PAIRS), *denoiser.latent_shape, generator=torch.Generator().manual_seed(3))
    with denoiser.gradients(BATCH):
        pool = TargetPool(denoiser, Pictures(latents, PAIRS), NOISINGS, seed=0)
        state = new_state(start_vectors(denoiser, settings), settings)
        start = {key: vector.detach().clone() for key, vector in state.vectors.items()}
        everything = pool.batch(range(NOISINGS * len(PAIRS)))

        def loss() -> float:
            with torch.no_grad():
                conditioning = denoiser.encode(everything.prompts, with_open_gates(state.vectors), everything.layers)
                predicted = denoiser.predict(everything.noised, everything.t, conditioning)
            return float(distances(predicted, everything.predictions).mean())

        losses = [loss()]
        micro_batches = MicroBatches(denoiser, BATCH)
        while state.step < settings.steps and losses[-1] > losses[0] / 2:
            for _ in range(LOOK_EVERY):
                make_step(
                    denoiser, state, pool.batch(slots_of_step(pool, BATCH, 0, state.step)), settings, micro_batches
                )
            losses.append(loss())
    assert losses[-1] <= losses[0] / 2, losses
    assert {key: vector.shape[1] for key, vector in vectors_of(state.vectors).items()} == widths
    for key in widths:
        name = part_name(key, "offset") if settings.conditional else key
        assert ((state.vectors[name] - start[name]).norm(dim=1) > 0.01).all(), key
    vectors = {key: vector.detach() for key, vector in with_open_gates(state.vectors).items()}
    plain, prefixed = (denoiser.sample(["Ada Lovelace"], [1], used) for used in (None, vectors))
    assert torch.isfinite(prefixed).all() and not torch.allclose(plain, prefixed, atol=1e-3)
