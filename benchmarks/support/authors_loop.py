"""Makes steps of the authors' loop, word for word (docs/METHODS.md 1.3): what our trainer is held against."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...prefix import Frame, inject


@dataclass(frozen=True)
class Item:
    """What one step learns from: noised latents `[1, …]`, their σ `[1]`, the name prompt and the neutral one."""

    noised: Tensor
    sigma: Tensor
    prompt: str
    neutral: str


def reference_step(
    model: Any, clip: Any, vectors: dict[str, Tensor], optimizer: torch.optim.Optimizer, items: Iterable[Item]
) -> None:
    """One step: three forward passes for each item, the full loss with η = 1, one step of the optimizer.

    Every weight of the denoiser and of the text encoder takes gradients that nobody uses, as in the released script.
    Must run outside inference mode, on weights that are loaded.
    """
    base, stage = model.model, clip.cond_stage_model
    for parameter in [*base.parameters(), *stage.parameters()]:
        parameter.requires_grad_(True)
    blank = clip.tokenize("")

    def encode(prompt: str, prefixed: bool) -> Tensor:
        tokens = clip.tokenize(prompt)
        return stage.encode_token_weights(inject(tokens, vectors, Frame(blank)) if prefixed else tokens)[0]

    def predict(item: Item, context: Tensor) -> Tensor:
        scaled = base.model_sampling.calculate_input(item.sigma, item.noised)
        context = context.to(item.noised)  # The host hands conditioning on in the main memory.
        return base.diffusion_model(scaled, base.model_sampling.timestep(item.sigma).float(), context=context)

    optimizer.zero_grad()
    items = list(items)
    eta = 1.0
    with torch.autograd.graph.allow_mutation_on_saved_tensors():
        losses = []
        for item in items:
            with torch.no_grad():
                neutral = predict(item, encode(item.neutral, prefixed=False))
                stopped = predict(item, encode(item.prompt, prefixed=True))
            student = predict(item, encode(item.prompt, prefixed=True))
            target = neutral - eta * (stopped - neutral)
            losses.append(torch.nn.functional.mse_loss(student, target))
        torch.stack(losses).mean().backward()
    optimizer.step()
