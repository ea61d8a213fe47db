"""Searches for embeddings against a prefix while it is learned, for it to be learned against them.

Some vectors that stand among the words of a prompt undo a prefix, unless it was learned with such vectors about
(docs/METHODS.md 2.10). Attacker and defender take turns, as in AdvUnlearn (Zhang et al., arXiv 2405.15234): in each
step one embedding of a few moves towards having names read as they are read without a prefix, and then the prefix takes
its step with that embedding before some of the names. Embeddings live on over steps, so that each of their moves serves
(as in "Adversarial Training for Free!", Shafahi et al., NeurIPS 2019), and begin anew now and then, so that the prefix
meets early attacks as well as late ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ...engines.denoiser import Denoiser, Vectors
from ...engines.micro_batches import MicroBatches
from ...engines.vectors import new_vectors
from ...prefix.meta_network import vectors_of, with_open_gates
from ...runs.seeds import generator
from ..data.plain_text import PlainText, Spoken
from ..parallel.team import Team
from .text_distance import text_distance

EMBEDDINGS = 4
"""So many take turns."""

LIFE = 40
"""Moves of an embedding before another takes its place."""

LENGTHS = (8, 4, 8, 16)
"""Vectors that embeddings have, in turn."""

STEP = 0.1
"""How far every number of an embedding moves at once, as a share of the spread of the encoder's token embeddings."""

PROMPTS = 4
"""That an embedding's move is made on, at most."""


class Attackers:
    """The embeddings of a run, which follow from its seed and its steps; saved with them."""

    def __init__(self, denoiser: Denoiser, plain: PlainText, seed: int) -> None:
        self._denoiser = denoiser
        self._plain = plain
        self._seed = seed

    def moved(
        self,
        embeddings: Mapping[str, Tensor],
        parameters: Vectors,
        names: Sequence[Spoken],
        step: int,
        micro_batches: MicroBatches,
        team: Team,
    ) -> Vectors | None:
        """The embedding of a step, after its move; None where what encoders say of these names cannot be told apart.

        Inside `Denoiser.gradients`. A step that is broken off has moved none: see `with_moved`.

        Args:
            embeddings: of the run so far, `{"number.encoder key": [k, d]}`.
            parameters: the prefix's, as they are.
            names: prompts that name somebody, of this step.
        """
        number, age = step % EMBEDDINGS, step // EMBEDDINGS % LIFE
        start = _start(step)
        own = {name.removeprefix(start): rows for name, rows in embeddings.items() if name.startswith(start)}
        if age == 0 or not own:
            length = LENGTHS[(step // EMBEDDINGS // LIFE + number) % len(LENGTHS)]
            drawn = generator(self._seed, "embeddings against the prefix", step)
            own = {key: rows.detach() for key, rows in new_vectors(self._denoiser, "", length, drawn).items()}
        fixed = {name: tensor.detach() for name, tensor in with_open_gates(parameters).items()}
        some = list(names[:PROMPTS])
        parts = micro_batches.work(
            lambda indices: self._gradients(own, fixed, [some[i] for i in indices]), range(len(some))
        )
        compared = [gradients for gradients in parts if gradients is not None]
        sums = [sum((part[key] for part in compared), torch.zeros_like(own[key])) for key in own]
        *summed, count = team.summed([*sums, torch.tensor(float(len(compared)))])
        if not count:
            return None
        if all(bool(torch.isfinite(gradient).all()) for gradient in summed):
            for key, gradient in zip(own, summed, strict=True):
                own[key] = own[key] - STEP * float(own[key].std()) * gradient.sign()
        return own

    def _gradients(self, embedding: Vectors, parameters: Vectors, names: Sequence[Spoken]) -> dict[str, Tensor] | None:
        """Of how far names are read from how they are read without a prefix, by encoder; None if none can be told."""
        prompts, layers = [prompt for prompt, _ in names], [layer for _, layer in names]
        rows = {key: vectors.detach().requires_grad_() for key, vectors in embedding.items()}
        count = len(next(iter(vectors_of(parameters).values()))) + len(next(iter(rows.values())))
        said = self._denoiser.encode(prompts, parameters, layers, rows)
        students = self._denoiser.text_states(prompts, said, count)
        plain = self._denoiser.text_states(prompts, self._plain.of(prompts, layers))
        apart = [
            text_distance(student, goal)
            for student, goal in zip(students, plain, strict=True)
            if student is not None and goal is not None
        ]
        if not apart:
            return None
        return dict(zip(rows, torch.autograd.grad(torch.stack(apart).sum(), list(rows.values())), strict=True))


def with_moved(embeddings: Mapping[str, Tensor], step: int, own: Vectors) -> dict[str, Tensor]:
    """The embeddings of a run once a step is made whose own has moved."""
    start = _start(step)
    others = {name: rows for name, rows in embeddings.items() if not name.startswith(start)}
    return others | {start + key: rows for key, rows in own.items()}


def _start(step: int) -> str:
    """How the names of a step's embedding begin."""
    return f"{step % EMBEDDINGS}."
