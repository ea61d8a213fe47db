"""Trains the demo's denoiser on the frozen text states: v-prediction with the host's own noise schedule."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from comfy.model_sampling import V_PREDICTION, ModelSamplingDiscrete
from comfy.taesd.taesd import TAESD

from ...prefix.digests import fingerprint
from ..loader import WEIGHTS, load_weights, text_model_weights
from ..model import LATENT_CHANNELS, new_clip, new_unet
from ..world.language import caption, filler_prompt
from .autoencoder import latents_of
from .common import Average, initialize, rank, save_half, say, train, whole, world_size
from .data import load_or_render
from .language import LENGTH, Tokens, TrainedEncoder

BATCH = 64
LEARNING_RATE = 1.2e-3
SHARES = (0.44, 0.25, 0.31)
"""Of the cast, strangers and things in a batch."""


def frozen_encoder(weights: Path = WEIGHTS) -> tuple[TrainedEncoder, Tokens]:
    """The trained text encoder, without gradients."""
    clip = new_clip()
    stored = load_weights("language", weights)
    tokens = Tokens(clip)
    encoder = TrainedEncoder(clip, tokens)
    encoder.net.load_state_dict(text_model_weights(stored))
    encoder.rows.data = stored["rows"].float()
    return encoder.requires_grad_(False), tokens


def prepare_latents(folder: Path, weights: Path) -> torch.Tensor:
    """Latents of all training pictures, computed once for each autoencoder."""
    path = folder / "latents.pt"
    encoder = {n: t for n, t in load_weights("autoencoder", weights).items() if not n.startswith("taesd_decoder")}
    stamp = fingerprint(encoder)
    if path.exists():
        stored = torch.load(path, weights_only=True)
        if stored["stamp"] == stamp:
            return stored["latents"]
    net = TAESD(latent_channels=LATENT_CHANNELS).eval()
    net.load_state_dict(load_weights("autoencoder", weights))
    latents = latents_of(load_or_render(folder), net)
    with whole(path) as part:
        torch.save({"stamp": stamp, "latents": latents}, part)
    return latents


def train_denoiser(folder: Path, weights: Path, minutes: float) -> None:
    """Learns to draw the latents from captions; saves now and then, so that it can be looked at while it learns."""
    torch.manual_seed(0)
    rng = np.random.default_rng(rank())
    generator = torch.Generator().manual_seed(rank())
    rendered = load_or_render(folder)
    latents = prepare_latents(folder, weights)
    say(f"{len(latents)} latents, mean {latents.float().mean():.3f}, std {latents.float().std():.3f}")
    batch_size = BATCH // world_size()
    encoder, tokens = frozen_encoder(weights)
    unet = new_unet()
    initialize(unet)
    for name in ("out.2.weight", "out.2.bias"):
        torch.nn.init.zeros_(dict(unet.named_parameters())[name])
    rate = LEARNING_RATE
    if (weights / "denoiser.safetensors").exists():
        rate /= 2
        unet.load_state_dict(load_weights("denoiser", weights))
        say("going on from the saved weights")
    average = Average(unet, 0.9995)
    sampling = type("Sampling", (ModelSamplingDiscrete, V_PREDICTION), {})()
    log_sigmas = sampling.log_sigmas
    kinds = torch.tensor([0 if p.person is not None else 1 if p.looks else 2 for p in rendered.pictures])
    shares = [(torch.nonzero(kinds == kind).flatten(), share) for kind, share in enumerate(SHARES)]

    def contexts(texts: list[str], double: bool) -> torch.Tensor:
        ids, _ = tokens.batch(texts, LENGTH)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            states = encoder(ids)
            if double:
                fillers, _ = tokens.batch([filler_prompt(rng, tokens.foreign) for _ in texts], LENGTH)
                states = torch.cat([encoder(fillers), states] if rng.random() < 0.7 else [states, encoder(fillers)], 1)
        return states.float()

    def step(index: int) -> torch.Tensor:
        counts = [round(batch_size * share) for _, share in shares[1:]]
        counts.insert(0, batch_size - sum(counts))
        drawn = [
            members[torch.randint(len(members), (count,), generator=generator)]
            for (members, _), count in zip(shares, counts, strict=True)
        ]
        picks = torch.cat(drawn)
        texts = [
            "" if rng.random() < 0.06 else caption(rng, rendered.pictures[i], tokens.foreign) for i in picks.tolist()
        ]
        context = contexts(texts, double=index % 10 == 9)
        x0 = latents[picks].float()
        noise = torch.randn(x0.shape, generator=generator)
        u = (torch.arange(batch_size) + torch.rand(batch_size, generator=generator)) / batch_size
        t = ((1 - u**1.3) * 1000).long().clamp(0, 999)[torch.randperm(batch_size, generator=generator)]
        sigma = log_sigmas[t].exp()[:, None, None, None]
        alpha, beta = 1 / (1 + sigma**2).sqrt(), sigma / (1 + sigma**2).sqrt()
        noised = alpha * x0 + beta * noise
        with torch.autocast("cpu", torch.bfloat16):
            v = unet(noised, t, context=context)
        return (v.float() - (alpha * noise - beta * x0)).square().mean()

    saved = [0]

    def checkpoint() -> None:
        saved[0] += 1
        if saved[0] % 3 == 0:
            state = dict(zip([n for n, _ in unet.named_parameters()], average.values, strict=True))
            save_half(state, weights / "denoiser.safetensors")

    train(
        "denoiser",
        list(unet.parameters()),
        step,
        minutes=minutes,
        learning_rate=rate,
        average=average,
        warm_up=200,
        checkpoint=checkpoint,
    )
    if rank() == 0:
        average.apply()
        save_half(unet.state_dict(), weights / "denoiser.safetensors")
