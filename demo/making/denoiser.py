"""Trains the demo's denoiser on the frozen text states: v-prediction with the host's own noise schedule."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from comfy.model_sampling import V_PREDICTION, ModelSamplingDiscrete

from ..loader import WEIGHTS, load_weights, text_model_weights
from ..model import new_clip, new_unet
from ..world.language import caption, filler_prompt
from ..world.people import GEOMETRY
from ..world.renderer import SIZE
from .autoencoder import prepare_latents
from .common import Average, initialize, rank, save_half, say, train, world_size
from .data import load_or_render
from .language import HEAD, LENGTH, Tokens, TrainedEncoder, targets

BATCH = 64
LEARNING_RATE = 1.2e-3
SHARES = (0.40, 0.32, 0.28)
"""Of the cast, strangers and things in a batch."""

GUIDE_WEIGHT = 0.05
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
    return encoder.requires_grad_(False), tokens


class Guide(torch.nn.Module):
    """A throw-away reading of the middle block: what the clean picture shows.

    To say it the block must fetch from the text what the noise hides, which it learns in a fraction of the steps that
    the denoising loss alone takes.
    """

    def __init__(self, unet: torch.nn.Module) -> None:
        super().__init__()
        self.middle: torch.Tensor | None = None
        block = unet.middle_block[-1]
        block.register_forward_hook(self._keep)
        width = MIDDLE * (SIZE // 16) ** 2
        self.linear = torch.nn.Linear(width, sum(HEAD.values()) + len(GEOMETRY))

    def _keep(self, module: torch.nn.Module, inputs: tuple[object, ...], output: torch.Tensor) -> None:
        self.middle = output

    def loss(self, truth: dict[str, torch.Tensor]) -> torch.Tensor:
        """Of the last pass through the denoiser: cross entropies and the squared error of the geometry."""
        parts = self.linear(self.middle.float().flatten(1)).split([*HEAD.values(), len(GEOMETRY)], -1)
        out = dict(zip([*HEAD, "geometry"], parts, strict=True))
        total = sum(F.cross_entropy(out[name], truth[name], ignore_index=-100) for name in HEAD)
        return total + 3 * F.mse_loss(out["geometry"], truth["geometry"], reduction="none")[truth["is_person"]].mean()


class Schedule:
    """The host's noise schedule, and what follows from it for v-prediction."""

    def __init__(self) -> None:
        sampling = type("Sampling", (ModelSamplingDiscrete, V_PREDICTION), {})()
        sigma = sampling.log_sigmas.exp()[:, None, None, None]
        self.alpha, self.beta = 1 / (1 + sigma**2).sqrt(), sigma / (1 + sigma**2).sqrt()

    def noised(self, x0: torch.Tensor, noise: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """Latents at time t."""
        return self.alpha[t] * x0 + self.beta[t] * noise

    def moved(self, x: torch.Tensor, v: torch.Tensor, t: torch.Tensor, later: torch.Tensor) -> torch.Tensor:
        """Latents at the time `later` as a sampler would take them there from t."""
        x0, noise = self.alpha[t] * x - self.beta[t] * v, self.beta[t] * x + self.alpha[t] * v
        return self.noised(x0, noise, later)


class Lessons:
    """What the denoiser learns from: pictures' latents, captions of them, and what the pictures show."""

    def __init__(self, folder: Path, weights: Path) -> None:
        self.rng = np.random.default_rng(rank())
        self.generator = torch.Generator().manual_seed(rank())
        self.pictures = load_or_render(folder).pictures
        self.latents = prepare_latents(folder, weights)
        self.encoder, self.tokens = frozen_encoder(weights)
        self.truth = targets(list(self.pictures))
        kinds = torch.tensor([0 if p.person is not None else 1 if p.looks else 2 for p in self.pictures])
        self._members = [torch.nonzero(kinds == kind).flatten() for kind in range(len(SHARES))]
        self._size = BATCH // world_size()

    def pick(self) -> torch.Tensor:
        """Which pictures are in the next batch."""
        counts = [round(self._size * share) for share in SHARES[1:]]
        counts.insert(0, self._size - sum(counts))
        return torch.cat([self._some(members, n) for members, n in zip(self._members, counts, strict=True)])

    def _some(self, members: torch.Tensor, count: int) -> torch.Tensor:
        return members[self.integers(0, len(members), count)]

    def integers(self, low: int, high: int, count: int) -> torch.Tensor:
        """`count` numbers from `low` to below `high`."""
        return torch.randint(low, high, (count,), generator=self.generator)

    def captions(self, chosen: torch.Tensor) -> list[str]:
        """A caption of each picture; some are left out, as guidance needs it."""
        return [
            "" if self.rng.random() < 0.06 else caption(self.rng, self.pictures[i], self.tokens.foreign) for i in chosen
        ]

    def contexts(self, texts: list[str], chunks: int = 1) -> torch.Tensor:
        """Text states [n, 77 * chunks, width]; where there are several chunks all but one say nothing."""
        saying = int(self.rng.integers(chunks))
        nothing = [[filler_prompt(self.rng, self.tokens.foreign) for _ in texts] for _ in range(chunks - 1)]
        nothing.insert(saying, texts)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            return torch.cat([self.encoder(self.tokens.batch(part, LENGTH)[0]) for part in nothing], 1).float()

    def times(self) -> torch.Tensor:
        """Times of a batch, spread evenly, more of them noisy."""
        u = (torch.arange(self._size) + torch.rand(self._size, generator=self.generator)) / self._size
        t = ((1 - u**1.3) * 1000).long().clamp(0, 999)
        return t[torch.randperm(self._size, generator=self.generator)]


def _predict(unet: torch.nn.Module, x: torch.Tensor, t: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        return unet(x, t, context=context).float()


@torch.no_grad()
def _guided(
    unet: torch.nn.Module,
    schedule: Schedule,
    lessons: Lessons,
    x0: torch.Tensor,
    noise: torch.Tensor,
    context: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Latents that a sampler with a guidance of up to `HIGHEST_GUIDANCE` comes to on the way to x0, and their time."""
    t = lessons.integers(450, 1000, len(x0))
    later = (t - lessons.integers(40, 160, len(x0))).clamp_min(300)
    nothing = lessons.contexts([""]).expand(len(x0), -1, -1)
    x = schedule.noised(x0, noise, t)
    v, without = _predict(unet, x, t, context), _predict(unet, x, t, nothing)
    scale = 1.5 + (HIGHEST_GUIDANCE - 1.5) * torch.rand((len(x0), 1, 1, 1), generator=lessons.generator)
    return schedule.moved(x, without + scale * (v - without), t, later), later


def train_denoiser(folder: Path, weights: Path, minutes: float) -> None:
    """Learns to draw the latents from captions; saves now and then, so that it can be looked at while it learns."""
    torch.manual_seed(0)
    lessons, schedule = Lessons(folder, weights), Schedule()
    unet = new_unet()
    initialize(unet)
    for name in ("out.2.weight", "out.2.bias"):
        torch.nn.init.zeros_(dict(unet.named_parameters())[name])
    guide = Guide(unet)
    rate, path, kept = LEARNING_RATE, weights / "denoiser.safetensors", folder / "denoiser-guide.pt"
    going_on = path.exists()
    if going_on:
        rate /= 2
        unet.load_state_dict(load_weights("denoiser", weights))
        if kept.exists():
            guide.load_state_dict(torch.load(kept, weights_only=True))
        say("going on from the saved weights")
    average = Average(unet, 0.9995)
    start, saved = time.time(), [0]

    def step(index: int) -> torch.Tensor:
        chosen = lessons.pick()
        x0 = lessons.latents[chosen].float()
        noise = torch.randn(x0.shape, generator=lessons.generator)
        correcting = index % 4 == 3 and (going_on or time.time() - start > CORRECTING_FROM * 60 * minutes)
        context = lessons.contexts(lessons.captions(chosen), 1 if correcting or index % 8 else 2 + index // 8 % 2)
        if correcting:
            x, t = _guided(unet, schedule, lessons, x0, noise, context)
        else:
            t = lessons.times()
            x = schedule.noised(x0, noise, t)
        # Where the latents are not between noise and x0, the v that leads to x0 says what a sampler should do.
        v = (schedule.alpha[t] * x - x0) / schedule.beta[t]
        weight = schedule.beta[t].square() if correcting else 1.0
        loss = (weight * (_predict(unet, x, t, context) - v).square()).mean()
        return loss + GUIDE_WEIGHT * guide.loss({name: value[chosen] for name, value in lessons.truth.items()})

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
        warm_up=100,
        checkpoint=checkpoint,
        matrices=inner,
    )
    if rank() == 0:
        average.apply()
        save(unet.state_dict())
