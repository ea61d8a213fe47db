"""Trains the classic denoiser on the frozen text states: v-prediction with the host's own noise schedule."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import torch
from comfy.model_sampling import V_PREDICTION, ModelSamplingDiscrete

from ..loader import WEIGHTS, load_weights, text_model_weights
from ..model import new_clip, new_unet
from ..world.language import filler_prompt
from ..world.renderer import SIZE, Picture
from .common import Average, device, half_precision, initialize, rank, save_half, say, stream, train
from .language import LENGTH, Tokens, TrainedEncoder
from .lessons import GUIDE_WEIGHT, Guide, Lessons, Picker

LEARNING_RATE = 1.2e-3
MIDDLE = 128
"""Channels of the middle block."""

HIGHEST_GUIDANCE = 7.0
CORRECTING_FROM = 0.5
"""Share of the time after which every fourth step starts where a guided sampler would be."""


def frozen_encoder(weights: Path = WEIGHTS) -> tuple[TrainedEncoder, Tokens]:
    """The trained text encoder, without gradients."""
    clip = new_clip()
    stored = load_weights("language", weights)
    tokens = Tokens(clip)
    encoder = TrainedEncoder(clip, tokens)
    encoder.net.load_state_dict(text_model_weights(stored))
    encoder.rows.data = stored["rows"].float()
    return encoder.requires_grad_(False).to(device()), tokens


class Schedule:
    """The host's noise schedule, and what follows from it for v-prediction."""

    def __init__(self) -> None:
        sampling = type("Sampling", (ModelSamplingDiscrete, V_PREDICTION), {})()
        sigma = sampling.log_sigmas.exp()[:, None, None, None].to(device())
        self.alpha, self.beta = 1 / (1 + sigma**2).sqrt(), sigma / (1 + sigma**2).sqrt()

    def noised(self, x0: torch.Tensor, noise: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """Latents at time t."""
        return self.alpha[t] * x0 + self.beta[t] * noise

    def moved(self, x: torch.Tensor, v: torch.Tensor, t: torch.Tensor, later: torch.Tensor) -> torch.Tensor:
        """Latents at the time `later` as a sampler would take them there from t."""
        x0, noise = self.alpha[t] * x - self.beta[t] * v, self.beta[t] * x + self.alpha[t] * v
        return self.noised(x0, noise, later)


def _batches(pictures: Sequence[Picture], tokens: Tokens, seed: int) -> Iterator[tuple[list[int], torch.Tensor]]:
    """Numbers of pictures, and token ids [chunks, n, 77] of their captions: an eighth has chunks that say nothing."""
    pick, index = Picker(pictures, tokens.foreign, seed), 0
    while True:
        chosen, texts = pick()
        chunks = 1 if index % 8 else 2 + index // 8 % 2
        said = [[filler_prompt(pick.rng, tokens.foreign) for _ in texts] for _ in range(chunks - 1)]
        said.insert(int(pick.rng.integers(chunks)), texts)
        yield chosen, torch.stack([tokens.batch(part, LENGTH)[0] for part in said])
        index += 1


def _times(size: int) -> torch.Tensor:
    """Times of a batch, spread evenly, more of them noisy."""
    u = (torch.arange(size) + torch.rand(size)) / size
    return ((1 - u**1.3) * 1000).long().clamp(0, 999)[torch.randperm(size)].to(device())


def _predict(unet: torch.nn.Module, x: torch.Tensor, t: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
    with half_precision():
        return unet(x, t, context=context).float()


@torch.no_grad()
def _contexts(encoder: TrainedEncoder, ids: torch.Tensor) -> torch.Tensor:
    """Text states [n, 77 * chunks, width] of token ids [chunks, n, 77]."""
    with half_precision():
        return torch.cat([encoder(part) for part in ids.to(device())], 1).float()


@torch.no_grad()
def _guided(
    unet: torch.nn.Module,
    schedule: Schedule,
    x0: torch.Tensor,
    noise: torch.Tensor,
    context: torch.Tensor,
    nothing: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Latents that a sampler with a guidance of up to `HIGHEST_GUIDANCE` comes to on the way to x0, and their time."""
    count = (len(x0),)
    t = torch.randint(450, 1000, count, device=x0.device)
    later = (t - torch.randint(40, 160, count, device=x0.device)).clamp_min(300)
    x = schedule.noised(x0, noise, t)
    v, without = _predict(unet, x, t, context), _predict(unet, x, t, nothing.expand(len(x0), -1, -1))
    scale = 1.5 + (HIGHEST_GUIDANCE - 1.5) * torch.rand((len(x0), 1, 1, 1), device=x0.device)
    return schedule.moved(x, without + scale * (v - without), t, later), later


def train_denoiser(folder: Path, weights: Path, minutes: float) -> None:
    """Learns to draw the latents from captions; saves now and then, so that it can be looked at while it learns."""
    torch.manual_seed(rank())
    lessons, schedule, (encoder, tokens) = Lessons(folder, weights), Schedule(), frozen_encoder(weights)
    batches = stream(partial(_batches, lessons.pictures, tokens))
    nothing = _contexts(encoder, tokens.batch([""], LENGTH)[0][None])
    unet = new_unet()
    initialize(unet)
    for name in ("out.2.weight", "out.2.bias"):
        torch.nn.init.zeros_(dict(unet.named_parameters())[name])
    guide = Guide(unet.middle_block[-1], MIDDLE * (SIZE // 16) ** 2)
    rate, path, kept = LEARNING_RATE, weights / "denoiser.safetensors", folder / "denoiser-guide.pt"
    going_on = path.exists()
    if going_on:
        rate /= 2
        unet.load_state_dict(load_weights("denoiser", weights))
        if kept.exists():
            guide.load_state_dict(torch.load(kept, weights_only=True, map_location="cpu"))
        say("going on from the saved weights")
    unet.to(device())
    guide.to(device())
    average = Average(unet, 0.9995)
    start, saved = time.time(), [0]

    def step(index: int) -> torch.Tensor:
        chosen, ids = next(batches)
        x0, shown = lessons.shown(chosen)
        noise, context = torch.randn_like(x0), _contexts(encoder, ids)
        correcting = len(ids) == 1 and index % 4 == 3
        if correcting and (going_on or time.time() - start > CORRECTING_FROM * 60 * minutes):
            x, t = _guided(unet, schedule, x0, noise, context, nothing)
            weight = schedule.beta[t].square()
        else:
            t = _times(len(x0))
            x, weight = schedule.noised(x0, noise, t), torch.ones((), device=x0.device)
        # Where the latents are not between noise and x0, the v that leads to x0 says what a sampler should do.
        v = (schedule.alpha[t] * x - x0) / schedule.beta[t]
        loss = (weight * (_predict(unet, x, t, context) - v).square()).mean()
        return loss + GUIDE_WEIGHT * guide.loss(shown)

    def save(state: dict[str, torch.Tensor]) -> None:
        save_half(state, path)
        torch.save(guide.state_dict(), kept)

    def checkpoint() -> None:
        saved[0] += 1
        if saved[0] % 3 == 0:
            save(dict(zip([n for n, _ in unet.named_parameters()], average.values, strict=True)))

    inner = [p for n, p in unet.named_parameters() if p.dim() > 1 and not n.startswith(("input_blocks.0.", "out.2."))]
    train(
        "denoiser",
        [*unet.parameters(), *guide.parameters()],
        step,
        minutes=minutes,
        learning_rate=rate,
        average=average,
        checkpoint=checkpoint,
        matrices=inner,
    )
    if rank() == 0:
        average.apply()
        save(unet.state_dict())
