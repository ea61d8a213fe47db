"""Trains the second model's denoiser on the states of the pretrained language model: flow matching."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path

import torch

from ..modern.model import DENOISER_CONFIG, new_denoiser
from ..modern.text_model import KEY, clip_of
from ..world.language import vocabulary
from ..world.renderer import SIZE, Picture
from .common import Average, device, half_precision, initialize, rank, save_half, say, stream, train
from .lessons import GUIDE_WEIGHT, Guide, Lessons, Picker

LEARNING_RATE = 1.2e-3
FILE = "flow_denoiser.safetensors"
HIGHEST_GUIDANCE = 6.0
CORRECTING_FROM = 0.5
"""Share of the time after which every fourth step starts where a guided sampler would be."""

PATCHES = (SIZE // 16) ** 2


class States:
    """The language model without gradients: states of tokens, as the denoiser is given them by the host."""

    def __init__(self, path: Path) -> None:
        self._clip = clip_of(path)
        self.tokenizer = self._clip.tokenizer
        self._net = getattr(self._clip.cond_stage_model, KEY).transformer.requires_grad_(False).to(device())

    @cached_property
    def foreign(self) -> tuple[str, ...]:
        """Words that the language model knows as one token and the demo's language does not have."""
        said = {word.casefold() for phrase in vocabulary() for word in phrase.split()}
        known = sorted(self.tokenizer.qwen3_4b.tokenizer.get_vocab())
        words = [token[1:] for token in known if token[0] == "Ġ" and token[1:].isascii() and token[1:].isalpha()]
        return tuple(word for word in words if len(word) > 2 and word.islower() and word not in said)

    def ids(self, text: str) -> list[int]:
        """Token ids of a prompt within the chat template."""
        return [token for token, *_ in self.tokenizer.tokenize_with_weights(text)[KEY][0]]

    @torch.no_grad()
    def of(self, ids: torch.Tensor) -> torch.Tensor:
        """States [n, length, width] of token ids [n, length], all of them said."""
        return self._net(ids.to(device()), attention_mask=None)[0]


def batches(pictures: Sequence[Picture], states: States, seed: int) -> Iterator[tuple[list[int], torch.Tensor]]:
    """Numbers of pictures, and token ids [n, length] of their captions, all of one length.

    The denoiser attends to all that it is given, as the host gives it: nothing is padded, so captions of a length wait
    for each other.
    """
    pick = Picker(pictures, states.foreign, seed)
    waiting: dict[int, list[tuple[int, list[int]]]] = defaultdict(list)
    while True:
        for index, text in zip(*pick(), strict=True):
            ids = states.ids(text)
            alike = waiting[len(ids)]
            alike.append((index, ids))
            if len(alike) == pick.size:
                yield [number for number, _ in alike], torch.tensor([tokens for _, tokens in alike])
                alike.clear()


def _predict(net: torch.nn.Module, x: torch.Tensor, sigma: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
    with half_precision():
        return net(x, sigma, context=context, num_tokens=context.shape[1]).float()


@torch.no_grad()
def _guided(
    net: torch.nn.Module, x0: torch.Tensor, noise: torch.Tensor, context: torch.Tensor, nothing: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Latents that a sampler with a guidance of up to `HIGHEST_GUIDANCE` comes to on the way to x0, and their noise."""
    sigma = 0.3 + 0.7 * torch.rand((len(x0), 1, 1, 1), device=x0.device)
    later = (sigma - 0.03 - 0.12 * torch.rand_like(sigma)).clamp_min(0.1)
    x = x0 + sigma * (noise - x0)
    flow = _predict(net, x, sigma.flatten(), context)
    without = _predict(net, x, sigma.flatten(), nothing.expand(len(x0), -1, -1))
    scale = 1.5 + (HIGHEST_GUIDANCE - 1.5) * torch.rand_like(sigma)
    return x + (later - sigma) * (without + scale * (flow - without)), later


def _start(net: torch.nn.Module) -> None:
    """Start values: blocks that do nothing yet, and norms of one, whatever they are called."""
    initialize(net)
    for name, parameter in net.named_parameters():
        if "adaLN" in name or name.startswith("final_layer.linear"):
            torch.nn.init.zeros_(parameter)
        elif name == "cap_embedder.0.weight":
            torch.nn.init.ones_(parameter)


def train_flow_denoiser(folder: Path, weights: Path, minutes: float, language_model: Path) -> None:
    """Learns to draw the latents from captions; saves now and then, so that it can be looked at while it learns."""
    torch.manual_seed(rank())
    lessons, states = Lessons(folder, weights), States(language_model)
    captioned = stream(partial(batches, lessons.pictures, states))
    nothing = states.of(torch.tensor([states.ids("")]))
    net = new_denoiser()
    _start(net)
    path = weights / FILE
    going_on = path.exists()
    if going_on:
        from safetensors.torch import load_file

        net.load_state_dict({name: value.float() for name, value in load_file(path).items()})
        say("going on from the saved weights")
    guide = Guide(
        net.layers[len(net.layers) // 2], PATCHES * DENOISER_CONFIG["dim"], lambda states: states[:, -PATCHES:]
    )
    net.to(device())
    guide.to(device())
    average = Average(net, 0.9995)
    start, saved = time.time(), [0]

    def step(index: int) -> torch.Tensor:
        chosen, ids = next(captioned)
        x0, shown = lessons.shown(chosen)
        noise, context = torch.randn_like(x0), states.of(ids)
        if index % 4 == 3 and (going_on or time.time() - start > CORRECTING_FROM * 60 * minutes):
            x, sigma = _guided(net, x0, noise, context, nothing)
            weight = sigma.square()
        else:
            even = (torch.arange(len(x0), device=x0.device) + torch.rand(len(x0), device=x0.device)) / len(x0)
            sigma = (1 - even**1.3)[:, None, None, None].clamp_min(1e-3)
            x, weight = x0 + sigma * (noise - x0), torch.ones_like(sigma)
        # Where the latents are not between noise and x0, the flow that leads to x0 says what a sampler should do.
        flow = (x - x0) / sigma
        loss = (weight * (_predict(net, x, sigma.flatten(), context) - flow).square()).mean()
        return loss + GUIDE_WEIGHT * guide.loss(shown)

    def checkpoint() -> None:
        saved[0] += 1
        if saved[0] % 3 == 0:
            save_half(dict(zip([n for n, _ in net.named_parameters()], average.values, strict=True)), path)

    inner = [p for n, p in net.named_parameters() if p.dim() > 1 and ("layers." in n or "refiner." in n)]
    train(
        "flow denoiser",
        [*net.parameters(), *guide.parameters()],
        step,
        minutes=minutes,
        learning_rate=LEARNING_RATE / (2 if going_on else 1),
        average=average,
        checkpoint=checkpoint,
        matrices=inner,
    )
    if rank() == 0:
        average.apply()
        save_half(net.state_dict(), path)
