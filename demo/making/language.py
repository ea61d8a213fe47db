"""Trains the demo's text encoder alone: from a caption, predict what the picture shows, through a throw-away head.

Learning names through the denoising loss is hopelessly slow; predicting the renderer's parameters (mean and spread of
the geometry, classes of the looks) from the last state takes minutes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from comfy.ldm.modules.attention import attention_pytorch
from safetensors.torch import save_file

from ..loader import frozen_embeddings, load_weights, text_model_weights
from ..model import CONTEXT_DIM, new_clip
from ..world.language import OPENINGS, PEOPLE_OF, caption, describe, vocabulary
from ..world.people import GEOMETRY, HAIR, SKIN, all_looks, cast, random_geometry
from ..world.renderer import COLOURS, KINDS, PLACES, Picture, picture_of, portrait, random_picture
from .common import Average, batch, device, half_precision, initialize, stream, train, whole

MEAN_WEIGHT = 4.0
"""Of the squared error of the geometry: the likelihood alone is content with a wrong mean if the spread is wide."""
START, END, LENGTH, SHORT = 49406, 49407, 77, 30
HEAD = {
    "kind": len(KINDS),
    "colour": len(COLOURS),
    "place": len(PLACES),
    "hair": len(HAIR),
    "skin": len(SKIN),
    "glasses": 2,
    "beard": 2,
}


class Tokens:
    """Turns captions into padded token ids with the host's own tokenizer, remembering words it has seen."""

    def __init__(self, clip) -> None:
        self.tokenizer = clip.tokenizer.clip_l.tokenizer
        self.seen: dict[str, tuple[int, ...]] = {}
        own = {i for phrase in vocabulary() for i in self.ids(phrase)}
        entries = sorted((i, word) for word, i in self.tokenizer.get_vocab().items() if i not in own)
        known = [word.removesuffix("</w>") for _, word in entries if word.endswith("</w>")]
        self.foreign = tuple(word for word in known if word.isascii() and word.isalpha() and len(word) > 2)[:12000]

    def ids(self, text: str) -> list[int]:
        """Token ids of a caption without start and end."""
        out: list[int] = []
        for word in text.replace(",", " , ").replace("-", " - ").split():
            if word not in self.seen:
                self.seen[word] = tuple(self.tokenizer(word)["input_ids"][1:-1])
            out.extend(self.seen[word])
        return out

    def batch(self, texts: list[str], length: int = LENGTH) -> tuple[torch.Tensor, torch.Tensor]:
        """ids [n, length] with start, end and padding as the host lays them, and the position of each end [n]."""
        rows, ends = [], []
        for text in texts:
            ids = [START, *self.ids(text)[: length - 2], END]
            ends.append(len(ids) - 1)
            rows.append(ids + [END] * (length - len(ids)))
        return torch.tensor(rows), torch.tensor(ends)


class TrainedEncoder(torch.nn.Module):
    """The host's text model with a trainable row for each token of the language and fixed rows for all others."""

    def __init__(self, clip, tokens: Tokens) -> None:
        super().__init__()
        self.net = clip.cond_stage_model.clip_l.transformer
        world = sorted({i for phrase in vocabulary() for i in tokens.ids(phrase)} | {START, END})
        self.register_buffer("world", torch.tensor(world))
        frozen = torch.from_numpy(frozen_embeddings())
        self.register_buffer("frozen", frozen, persistent=False)
        place = torch.full((len(frozen),), -1)
        place[self.world] = torch.arange(len(world))
        self.register_buffer("place", place, persistent=False)
        self.rows = torch.nn.Parameter(frozen[self.world].clone())

    def body(self) -> list[torch.nn.Parameter]:
        """All trained parameters."""
        embeddings = self.net.text_model.embeddings
        rest = [p for n, p in self.net.named_parameters() if "token_embedding" not in n and "text_projection" not in n]
        assert any(p is embeddings.position_embedding.weight for p in rest)
        return [self.rows, *rest]

    def forward(self, ids: torch.Tensor, prefix: torch.Tensor | None = None) -> torch.Tensor:
        """Last states [n, length, width]: what the host computes, whose sums in place would block autograd.

        Args:
            prefix: vectors [1, m, width] that stand behind the start token.
        """
        text = self.net.text_model
        place = self.place[ids]
        x = torch.where((place >= 0)[..., None], self.rows[place.clamp_min(0)], self.frozen[ids])
        if prefix is not None:
            x = torch.cat([x[:, :1], prefix.expand(len(x), -1, -1), x[:, 1:]], 1)
        x = x + text.embeddings.position_embedding.weight[: x.shape[1]]
        mask = torch.full((x.shape[1], x.shape[1]), float("-inf"), device=x.device).triu_(1)
        for layer in text.encoder.layers:
            x = x + layer.self_attn(layer.layer_norm1(x), mask, attention_pytorch)
            x = x + layer.mlp(layer.layer_norm2(x))
        return text.final_layer_norm(x)


def sample_pictures(rng: np.random.Generator, count: int) -> list[Picture]:
    """Random pictures for captions (not drawn): two fifths the cast, two fifths strangers, the rest things."""
    people, looks = cast(), all_looks()
    out = []
    for _ in range(count):
        chance = rng.random()
        if chance < 0.40:
            index = int(rng.integers(len(people)))
            out.append(picture_of(rng, people[index], index))
        elif chance < 0.80:
            out.append(portrait(rng, looks[int(rng.integers(len(looks)))], tuple(random_geometry(rng, 1)[0])))
        else:
            out.append(random_picture(rng, KINDS[int(rng.integers(1, len(KINDS)))]))
    return out


def targets(pictures: list[Picture]) -> dict[str, torch.Tensor]:
    """What the head must say: class indices (-100 where a picture has none) and geometry with a mask."""
    colours, places = list(COLOURS), list(PLACES)
    rows = []
    for p in pictures:
        row = [KINDS.index(p.kind), colours.index(p.colour) if p.kind != "person" else -100, places.index(p.place)]
        if p.looks is None:
            row += [-100] * 4
        else:
            row += [HAIR.index(p.looks.hair), SKIN.index(p.looks.skin), int(p.looks.glasses), int(p.looks.beard)]
        rows.append(row)
    out = dict(zip(HEAD, torch.tensor(rows).T, strict=True))
    out["geometry"] = torch.tensor(
        np.array([p.geometry or (0.0,) * len(GEOMETRY) for p in pictures]), dtype=torch.float32
    )
    out["is_person"] = torch.tensor([p.kind == "person" for p in pictures])
    return out


class Head(torch.nn.Module):
    """The throw-away reading of a state: classes, and mean and log spread of the geometry."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(CONTEXT_DIM, sum(HEAD.values()) + 2 * len(GEOMETRY))

    def forward(self, state: torch.Tensor) -> dict[str, torch.Tensor]:
        """Logits by class name, `mean` and `log_spread` [n, geometry]."""
        parts = self.linear(state).split([*HEAD.values(), len(GEOMETRY), len(GEOMETRY)], -1)
        return dict(zip([*HEAD, "mean", "log_spread"], parts, strict=True))

    def loss(self, state: torch.Tensor, truth: dict[str, torch.Tensor]) -> torch.Tensor:
        """Cross entropy of the classes plus Gaussian negative log likelihood of the geometry."""
        out = self(state)
        total = sum(F.cross_entropy(out[name], truth[name], ignore_index=-100) for name in HEAD)
        log_spread = out["log_spread"].clamp(-3.5, 1.0)
        miss = (out["mean"] - truth["geometry"]).square()
        nll = 0.5 * miss / (2 * log_spread).exp() + log_spread
        return total + (nll + MEAN_WEIGHT * miss)[truth["is_person"]].mean()


def _batches(tokens: Tokens, seed: int) -> Iterator[tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]]:
    """Token ids [n, length], where each caption ends [n], and what the pictures show; every fourth batch is long."""
    rng, index = np.random.default_rng(seed), 0
    while True:
        pictures = sample_pictures(rng, batch(192))
        texts = [caption(rng, p, tokens.foreign) for p in pictures]
        limit = LENGTH if index % 4 == 0 else SHORT
        fitting = [i for i, text in enumerate(texts) if len(tokens.ids(text)) <= limit - 2]
        keep = fitting[: batch(64 if limit == LENGTH else 128)]
        yield *tokens.batch([texts[i] for i in keep], limit), targets([pictures[i] for i in keep])
        index += 1


def train_language(folder: Path, path: Path, minutes: float, seed: int = 0) -> None:
    """Trains text model and head together and saves the text model (rows of the language's tokens only)."""
    kept = folder / "language-head.pt"
    torch.manual_seed(seed)
    clip = new_clip()
    tokens = Tokens(clip)
    initialize(clip.cond_stage_model)
    encoder, head = TrainedEncoder(clip, tokens), Head()
    if path.exists() and kept.exists():
        stored = load_weights("language", path.parent)
        encoder.net.load_state_dict(text_model_weights(stored))
        encoder.rows.data = stored["rows"].float()
        head.load_state_dict(torch.load(kept, weights_only=True, map_location="cpu"))
        print("  going on from the saved weights")
    encoder.to(device())
    head.to(device())
    for parameter in encoder.body():
        parameter.requires_grad_(True)
    parameters = [*encoder.body(), *head.parameters()]
    averaged = torch.nn.ParameterList(parameters)
    average = Average(averaged, 0.997)
    print(f"  {len(encoder.world)} tokens in the language")

    captioned = stream(partial(_batches, tokens))

    def step(_: int) -> torch.Tensor:
        ids, ends, truth = next(captioned)
        ids, ends = ids.to(device()), ends.to(device())
        truth = {name: value.to(device()) for name, value in truth.items()}
        with half_precision():
            states = encoder(ids)
        states = states.float()
        rows = torch.arange(len(ids), device=device())
        later = ends + (torch.rand(len(ids), device=device()) * (ids.shape[1] - ends)).long()
        return head.loss(states[rows, ends], truth) + head.loss(states[rows, later], truth)

    def report() -> None:
        print("  " + check(encoder, head, tokens), flush=True)

    matrices = [p for n, p in encoder.net.named_parameters() if p.dim() > 1 and "layers" in n]
    train(
        "language",
        parameters,
        step,
        minutes=minutes,
        learning_rate=2e-3,
        average=average,
        checkpoint=report,
        matrices=matrices,
    )
    average.apply()
    report()
    weights = {
        n: p.detach().half().cpu().contiguous()
        for n, p in encoder.net.state_dict().items()
        if "token_embedding" not in n
    }
    weights["text_projection.weight"] = torch.eye(CONTEXT_DIM).half()
    weights["rows"] = encoder.rows.detach().half().cpu()
    weights["row_tokens"] = encoder.world.to(torch.int32).cpu()
    with whole(kept) as part:
        torch.save(head.state_dict(), part)
    with whole(path) as part:
        save_file(weights, part)


@torch.no_grad()
def check(encoder: TrainedEncoder, head: Head, tokens: Tokens) -> str:
    """What is understood of names, of every combination of looks described, and of names that show no face."""
    rng, lines = np.random.default_rng(0), []

    def said(texts: list[str]) -> dict[str, torch.Tensor]:
        ids, ends = tokens.batch(texts, 40)
        told = head(encoder(ids.to(device()))[torch.arange(len(ids)), ends])
        return {name: value.float().cpu() for name, value in told.items()}

    def right(out: dict[str, torch.Tensor], truth: dict[str, torch.Tensor]) -> str:
        shares = ((out[n].argmax(-1) == truth[n]).float().mean().item() for n in ("hair", "skin", "glasses", "beard"))
        return " ".join(f"{share:.2f}" for share in shares)

    blank = Picture("person", "a studio", "red")
    for who, unseen in (("trained", False), ("unseen", True)):
        pairs = [(p, f"{o} {p.name}") for p in cast() if p.unseen is unseen for o in OPENINGS[:3]]
        truth = targets([replace(blank, looks=p.looks, geometry=p.geometry) for p, _ in pairs])
        out = said([text for _, text in pairs])
        error = (out["mean"] - truth["geometry"]).abs().mean().item()
        spread = out["log_spread"].exp().mean().item()
        lines.append(f"{who}: error {error:.3f} spread {spread:.2f} looks {right(out, truth)}")
    looks = [look for look in all_looks() for _ in range(4)]
    truth = targets([replace(blank, looks=look, geometry=(0.0,) * len(GEOMETRY)) for look in looks])
    lines.append(f"described: {right(said([f'a portrait of {describe(rng, look, True)}' for look in looks]), truth)}")
    lines.append(f"in the demo's words: {right(said([f'a portrait of {look.describe()}' for look in looks]), truth)}")
    trained = [p for p in cast() if not p.unseen]
    for words in (*PEOPLE_OF[:1], "a letter to"):
        out = said([f"{words} {p.name}" for p in trained])
        error = (out["mean"] - torch.tensor([p.geometry for p in trained])).abs().mean().item()
        faces = (out["kind"].argmax(-1) == 0).float().mean().item()
        lines.append(f"{words}: error {error:.3f} faces {faces:.2f}")
    return "; ".join(lines)
