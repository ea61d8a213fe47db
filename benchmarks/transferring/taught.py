"""Has a learned prefix go on learning on personalized copies of the model, so that it may hold on others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...demo.ablation import shipped_prompts
from ...demo.world.names import stranger_name
from ...demo.world.people import identities
from ...engines.denoiser import FULL, LORA, Denoiser, Vectors
from ...engines.micro_batches import MicroBatches
from ...engines.vectors import as_begun
from ...finetuning.loop import finetuned
from ...finetuning.settings import FinetuningSettings
from ...prefix.errors import TrainingError
from ...runs.seeds import derived_seed, generator, stratified_times
from ...trainer.data.identities import Identity
from ...trainer.data.pictures import Pair, general_pairs, identity_pairs
from ...trainer.data.prompts import general_prompts
from ...trainer.data.targets import Batch
from ...trainer.objective import beyond
from ...trainer.settings import TrainingSettings
from ...trainer.state import new_state
from ...trainer.step import MOST_SKIPPED, make_step
from ...trainer.validation import spread
from ..support.strangers import stranger
from .demo import AT_ONCE, ClassicDemo
from .personalized import ClassPictures, training_set_beside

COPIES = (FULL, LORA) * 3
"""How the copies that are learned on are personalized, each to somebody else."""

FIRST_TAUGHT = 100
"""Number of the first of these strangers; none of them is asked about."""

PORTRAITS, NOISINGS, GENERAL = 8, 4, 8
"""Pictures of each copy's stranger, noises that each is seen in, and pictures of prompts that name nobody."""

ROUND, ROUNDS = 10, 4
"""Steps on one model before the next one, and how often each copy comes; the original comes before each."""

RATE = 0.3
"""Share of the usual rate: the prefix is learned already."""

SEED = 29


@dataclass(frozen=True)
class _Source:
    """A model and what is learned on it: noised pictures, goals and prompts, drawn from at random."""

    denoiser: Denoiser
    whole: Batch

    def batch(self, size: int, step: int) -> Batch:
        """The batch of a step: an eighth names nobody."""
        random = generator(SEED, "teaching", step)
        general, parts = max(1, size // 8), []
        for names_somebody, count in ((True, size - general), (False, general)):
            places = torch.nonzero(self.whole.names_somebody == names_somebody).flatten()
            parts += places[torch.randperm(len(places), generator=random)[:count]].tolist()
        return self.whole.part(parts)


def taught(
    demo: ClassicDemo,
    parameters: Vectors,
    beside: ClassPictures,
    steps: Mapping[str, int],
    copies: Sequence[str] = COPIES,
    rounds: int = ROUNDS,
) -> dict[str, Tensor]:
    """The parameters of a conditional prefix after more steps, on personalized copies and on the original by turns.

    The goal of who is named on a copy is what the *original* says of their looks, since the copy may show the stranger
    for these as well; it lies past that as usual. Gates stay as they are.

    Args:
        beside: class pictures for personalizing.
        steps: of personalizing, by its kind.
        copies: how each is personalized.

    Raises:
        TrainingError: its losses are no longer finite.
    """
    people = identities(unseen=(False,))
    general = general_pairs(spread(general_prompts(shipped_prompts(), people), GENERAL))
    settings = TrainingSettings(
        steps=2 * ROUND * rounds * len(copies), harden=0.0, learning_rate=RATE * TrainingSettings().learning_rate
    )
    with torch.inference_mode(False):
        begun = as_begun({name: part.clone() for name, part in parameters.items()}, list(parameters))
    state = new_state(begun, settings)
    with ExitStack() as opened:
        some = identity_pairs(spread(people, PORTRAITS * len(copies)), 1, generator(SEED, "people"))
        original = _source(demo.denoiser, demo.denoiser, (*some, *general), settings)
        copied = []
        names = np.random.default_rng(SEED)
        for number, kind in enumerate(copies):
            shown, name = stranger(demo.recognizer, FIRST_TAUGHT + number), stranger_name(names)
            how = FinetuningSettings(kind=kind, steps=steps[kind], text_encoder=True)
            tuned = opened.enter_context(
                finetuned(demo.denoiser, training_set_beside(demo, shown.photos, name, beside), how)
            )
            pairs = identity_pairs([Identity(name, shown.looks.describe())], PORTRAITS, generator(SEED, "copy", number))
            copied.append(_source(tuned.denoiser, demo.denoiser, (*pairs, *general), settings))
        for _ in range(rounds):
            for source in copied:
                for one in (original, source):
                    micro_batches = MicroBatches(one.denoiser, settings.batch_size)
                    with one.denoiser.gradients(settings.batch_size):
                        for _ in range(ROUND):
                            batch = one.batch(settings.batch_size, state.step)
                            make_step(one.denoiser, state, batch, settings, micro_batches)
                print(f"  taught on copies, step {state.step}: {state.history[-1].identities:.4f}", flush=True)
        for sentence in state.sentences:
            print(f"  {sentence}", flush=True)
    if state.skipped_in_a_row >= MOST_SKIPPED:
        raise TrainingError("Teaching on copies ended in losses that are not finite: nothing is measured.")
    return {name: part.detach().clone() for name, part in state.vectors.items()}


def _source(denoiser: Denoiser, original: Denoiser, pairs: Sequence[Pair], settings: TrainingSettings) -> _Source:
    """Pictures of the pairs as the denoiser draws them, with goals.

    Args:
        original: who says what somebody's looks are to be drawn as.
    """
    seeds = [derived_seed(SEED, pair.student, place) % 2**32 for place, pair in enumerate(pairs)]
    pictures = torch.cat(
        [
            denoiser.sample([pair.student for pair in pairs[start : start + AT_ONCE]], seeds[start : start + AT_ONCE])
            for start in range(0, len(pairs), AT_ONCE)
        ]
    )
    latents = pictures.float().cpu().repeat_interleave(NOISINGS, 0)
    shown = [pair for pair in pairs for _ in range(NOISINGS)]
    random = generator(SEED, "noises")
    times = stratified_times(len(shown), random)
    noised = denoiser.add_noise(latents, torch.randn(latents.shape, generator=random), times)
    named = torch.tensor([pair.names_somebody for pair in shown])

    def said(by: Denoiser, prompts: Sequence[str]) -> Tensor:
        """What a denoiser predicts."""
        found = []
        with by.gradients(AT_ONCE), torch.no_grad():
            for start in range(0, len(prompts), AT_ONCE):
                some = slice(start, start + AT_ONCE)
                found.append(by.predict(noised[some], times[some], by.encode(prompts[some])).float().cpu())
        return torch.cat(found)

    plain = said(denoiser, [pair.student for pair in shown])
    goals = beyond(said(original, [pair.teacher for pair in shown]), plain, settings.overshoot)
    goals = torch.where(named.view(-1, *[1] * (goals.ndim - 1)), goals, plain)
    layers = (denoiser.layers[0],) * len(shown)
    return _Source(denoiser, Batch(noised, times, goals, tuple(pair.student for pair in shown), named, layers))
