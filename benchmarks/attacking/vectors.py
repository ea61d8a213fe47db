"""Fits an embedding by which a protected model draws people again whose names stand beside it.

A text encoder reads vectors as it reads words, and hosts let users bring some of their own: *embeddings*, or textual
inversions (Gal et al., arXiv 2208.01618). With the prefix's file in hand vectors can be fitted so that what comes out
is what came out without it: this is how erased concepts come back in "Circumventing Concept Erasure" (Pham et al.,
arXiv 2308.01508). Whoever does it needs no picture of the person whom they are after: vectors that were fitted on
other people serve (*universal* ones).

The gate of a conditional prefix saturates, and a saturated gate hides the way to its other side from a gradient. So
what is fitted is the sum of the distance to the unprotected prompt, as a share of what it was before, and of what the
gate would have to give up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import softplus

from ...engines.denoiser import Conditioning, Denoiser, Vectors
from ...engines.vectors import new_vectors, scale_free_adam
from ...prefix.meta_network import likeness_to_people, network_of, standardized, vectors_of
from ...runs.seeds import generator, noise_of, rate_factor, stratified_times
from ...trainer.stages.text_distance import Said, text_distance

BATCH = 8
"""Prompts of a step."""

RATE = 0.1
"""Peak rate, as a multiple of the spread of the encoder's token embeddings."""

WARMUP = 0.05

GATE_WEIGHT = 0.1
"""Of what the gate says for a name, beside the distance to the unprotected prompt."""


@dataclass(frozen=True)
class Budget:
    """What an attack may spend.

    Attributes:
        count: vectors, or words.
        steps: so often they are changed.
        seed: of where they start, and of which prompts a step sees.
    """

    count: int = 8
    steps: int = 200
    seed: int = 0


class Loss:
    """How far prompts that begin with an embedding are from being read as if nothing protected them.

    Inside `Denoiser.gradients`.

    Args:
        denoiser: the unprotected model.
        parameters: of the prefix.
        prompts: which name people.
        latents: of pictures that the unprotected model draws for them, `[n, *latent_shape]`: then what the denoiser
            predicts is compared, else what the text encoders say.
        seed: of noises and times.
        are_words: whether embeddings stand for words of the encoder's own, of which gates let less through.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        parameters: Vectors,
        prompts: Sequence[str],
        latents: Tensor | None = None,
        seed: int = 0,
        are_words: bool = False,
    ) -> None:
        self._are_words = are_words
        self.denoiser = denoiser
        self.prompts = tuple(prompts)
        self._parameters = {name: tensor.detach() for name, tensor in parameters.items()}
        self._vectors = vectors_of(self._parameters)
        self._networks = {key: network_of(self._parameters, key) for key in self._vectors}
        self._count = len(next(iter(self._vectors.values())))
        self._latents = latents
        self._generator = generator(seed, "noises of an attack")
        with torch.no_grad():
            self._goals = [denoiser.encode([prompt]) for prompt in self.prompts]
            self._unit = [
                float(self._said_apart(index, denoiser.encode([prompt], self._parameters), 0)) or 1.0
                for index, prompt in enumerate(self.prompts)
            ]

    def __call__(self, embedding: Vectors, some: Sequence[int]) -> Tensor:
        """The mean over some of the prompts: 1 and the gate's share where an embedding does nothing, 0 at the end."""
        prompts = [self.prompts[index] for index in some]
        conditioning = self.denoiser.encode(prompts, self._parameters, embedding=embedding)
        count = len(next(iter(embedding.values())))
        if self._latents is None:
            apart = [
                self._said_apart(index, [said], count) / self._unit[index]
                for index, said in zip(some, conditioning, strict=True)
            ]
            distance = torch.stack(apart).mean()
        else:
            distance = self._predicted_apart(some, conditioning)
        return distance + GATE_WEIGHT * self._gates(prompts, embedding)

    def _said_apart(self, index: int, conditioning: Conditioning, count: int) -> Tensor:
        (student,) = self.denoiser.text_states([self.prompts[index]], conditioning, self._count + count)
        (teacher,) = self.denoiser.text_states([self.prompts[index]], self._goals[index])
        return text_distance(_told(student), _told(teacher))

    def _predicted_apart(self, some: Sequence[int], conditioning: Conditioning) -> Tensor:
        assert self._latents is not None
        clean = self._latents[list(some)]
        times = stratified_times(len(clean), self._generator)
        noises = torch.stack(
            [noise_of(tuple(clean.shape[1:]), int(torch.randint(2**31, (1,), generator=self._generator))) for _ in some]
        )
        noised = self.denoiser.add_noise(clean, noises, times)
        apart: list[Tensor] = []
        for place, index in enumerate(some):  # What is said of prompts may differ in length.
            one = slice(place, place + 1)
            with torch.no_grad():
                goal = self.denoiser.predict(noised[one], times[one], self._goals[index])
                unit = self.denoiser.predict(
                    noised[one], times[one], self.denoiser.encode([self.prompts[index]], self._parameters)
                )
            found = self.denoiser.predict(noised[one], times[one], [conditioning[place]])
            apart.append((found - goal).square().mean() / (unit - goal).square().mean().clamp_min(1e-9))
        return torch.stack(apart).mean()

    def _gates(self, prompts: Sequence[str], embedding: Vectors) -> Tensor:
        """How sure gates are that somebody is named, softened so that it is never below zero; 0 without gates."""
        if not any(self._networks.values()):
            return torch.zeros(())
        logits = []
        for said in self.denoiser.states_read(prompts, self._vectors, embedding):
            for key, (states, _) in said.items():
                network = self._networks[key]
                if network is not None:
                    standard = standardized(network, states)[None]
                    logits.append(likeness_to_people(network, standard, [self._are_words]).max())
        return softplus(torch.stack(logits)).mean()


def fitted_embedding(
    denoiser: Denoiser,
    parameters: Vectors,
    prompts: Sequence[str],
    budget: Budget,
    latents: Tensor | None = None,
    told: Callable[[int, float], None] = lambda step, loss: None,
) -> dict[str, Tensor]:
    """The vectors of an embedding, `{encoder key: [k, d]}`, that undoes a prefix for these prompts, and for others.

    Args:
        prompts: universal vectors come of many people's, those of one person of theirs alone.
        latents: see `Loss`.
        told: called after each step.
    """
    with denoiser.gradients(BATCH):
        loss_of = Loss(denoiser, parameters, prompts, latents, budget.seed)
        vectors = new_vectors(denoiser, "", budget.count, generator(budget.seed, "embedding of an attack"))
        optimizer = scale_free_adam(vectors, RATE)
        drawn = generator(budget.seed, "prompts of an attack")
        for step in range(budget.steps):
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * rate_factor(step, budget.steps, WARMUP)
            some = torch.randperm(len(prompts), generator=drawn)[:BATCH].tolist()
            loss = loss_of(vectors, some)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            told(step, float(loss.detach()))
    return {key: rows.detach() for key, rows in vectors.items()}


def _told(said: Any) -> Said:
    if said is None:
        raise ValueError("what the text encoders say of this prompt cannot be told apart: shorten it")
    return said
