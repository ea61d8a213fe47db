"""`python -m anonymize_faces.demo.making.text_alone`: prints whether a prefix can talk the text model alone off a name.

Needs the language stage and no other: the stage's throw-away head stands in for the denoiser. What it says decides
whether a text model of this language is a fair ruler before hours go into drawing.
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

import numpy as np
import torch

from ...tools.command import run_command
from ...tools.layout import ROOT
from ..host import enter_host
from ..loader import WEIGHTS
from ..world.people import GEOMETRY, THING_PROMPTS, all_looks, cast, strangers
from ..world.renderer import LANDMARKS, MASCOTS, picture_of
from .common import device

VECTORS, BATCH, DRAWS = 10, 16, 8
WORDS = ("", "a fan of ", "a friend of ")
PLACES_READ = (0.0, 0.3, 0.7)
"""Where states are compared: at the end of the prompt, and so far into the padding behind it."""


class FrozenTextModel:
    """The frozen text model with its head: states of prompts, with a prefix or without, and who is seen in them."""

    def __init__(self, folder: Path, weights: Path) -> None:
        from .denoiser import frozen_encoder
        from .language import Head

        self.encoder, self.tokens = frozen_encoder(weights)
        self.head = Head().requires_grad_(False).to(device())
        self.head.load_state_dict(torch.load(folder / "language-head.pt", weights_only=True, map_location="cpu"))
        self._looks, self._strangers = strangers()

    def states(self, texts: list[str], prefix: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Last states [n, length, width], and the position of each prompt's end [n]."""
        from .language import LENGTH

        count = 0 if prefix is None else prefix.shape[1]
        ids, ends = self.tokens.batch(texts, LENGTH - count)
        return self.encoder(ids.to(device()), prefix), ends + count

    @torch.no_grad()
    def found(self, unseen: bool, prefix: torch.Tensor | None = None, words: str = "") -> tuple[float, float]:
        """Share of names whose geometry, as the states tell it, is nearest in the gallery; share of looks kept."""
        from .language import targets

        people = [(i, p) for i, p in enumerate(cast()) if p.unseen is unseen]
        states, ends = self.states([f"a close-up portrait of {words}{p.name}" for _, p in people], prefix)
        told = {name: value.cpu() for name, value in self.head(states[torch.arange(len(ends)), ends]).items()}
        truth = targets([picture_of(np.random.default_rng(0), person, index) for index, person in people])
        looks = np.mean([(told[n].argmax(-1) == truth[n]).float().mean() for n in ("hair", "skin", "glasses", "beard")])
        known, hits = np.array([p.geometry for p in cast()]), []
        generator = torch.Generator().manual_seed(0)
        for row, (index, person) in enumerate(people):
            gallery = np.concatenate([known, self._strangers[[look == person.looks for look in self._looks]]])
            spread = told["log_spread"][row].exp().clamp_max(0.6)
            for _ in range(DRAWS):
                drawn = told["mean"][row] + spread * torch.randn(len(GEOMETRY), generator=generator)
                hits.append(np.square(gallery - drawn.numpy()).sum(1).argmin() == index)
        return float(np.mean(hits)), float(looks)


def learn(model: FrozenTextModel, steps: int, rate: float, keeping: float) -> torch.Tensor:
    """Vectors [1, VECTORS, width] under which names are read as their descriptions and all else as before."""
    rng, spread = np.random.default_rng(3), float(model.encoder.rows.std())
    trained = [person for person in cast() if not person.unseen]
    general = [*THING_PROMPTS, *(f"a picture of {kind}" for kind in (*LANDMARKS, *MASCOTS))]
    general += [f"a portrait of {look.describe()}" for look in all_looks()]
    generator = torch.Generator().manual_seed(0)
    width = model.encoder.rows.shape[1]
    prefix = torch.nn.Parameter((0.5 * spread * torch.randn((1, VECTORS, width), generator=generator)).to(device()))
    optimizer = torch.optim.Adam([prefix])
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate * spread * min(1, (step + 1) / 10) * (0.5 + 0.5 * math.cos(math.pi * step / steps))
        people = [trained[i] for i in rng.integers(len(trained), size=BATCH)]
        kept = [general[i] for i in rng.integers(len(general), size=BATCH)]
        with torch.no_grad():
            wanted, ends = model.states([f"a portrait of {p.looks.describe()}" for p in people] + kept)
        got, prefixed_ends = model.states([f"a portrait of {p.name}" for p in people] + kept, prefix)
        loss = torch.zeros((), device=device())
        for share in PLACES_READ:
            there, here = (_at(states, last, share) for states, last in ((wanted, ends), (got, prefixed_ends)))
            missed = (there - here).square().mean(-1)
            loss = loss + missed[:BATCH].mean() + keeping * missed[BATCH:].mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 50 == 49:
            print(f"  step {step + 1}: loss {loss.item():.3f}; {told_of(model, prefix.detach())}", flush=True)
    return prefix.detach()


def _at(states: torch.Tensor, ends: torch.Tensor, share: float) -> torch.Tensor:
    places = ends + ((states.shape[1] - 1 - ends) * share).long()
    return states[torch.arange(len(ends)), places]


def told_of(model: FrozenTextModel, prefix: torch.Tensor | None = None, words: str = "") -> str:
    """Shares found and looks kept, of trained and unseen people."""
    parts = []
    for group, unseen in (("trained", False), ("unseen", True)):
        found, looks = model.found(unseen, prefix, words)
        parts.append(f"{group}: found {found:.3f}, looks {looks:.3f}")
    return "; ".join(parts)


def main() -> None:
    """Prints what words before a name do, then what vectors before the prompt learn to do."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--folder", type=Path, default=ROOT / "build" / "demo-model", help="where the build keeps things"
    )
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="where the weights are")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--rate", type=float, default=0.1, help="as a share of the embeddings' spread")
    parser.add_argument("--keeping", type=float, default=2.0, help="weight of prompts that name nobody")
    arguments = parser.parse_args()
    enter_host()
    torch.manual_seed(0)
    model = FrozenTextModel(arguments.folder, arguments.weights)
    for words in WORDS:
        print(f"  {words or 'the name alone'}: {told_of(model, words=words)}", flush=True)
    learn(model, arguments.steps, arguments.rate, arguments.keeping)


if __name__ == "__main__":
    sys.exit(run_command(main))
