"""Measures whether a model follows descriptions after it was fine-tuned on them: the claim of synthetic face captions.

A demo model is made weak on purpose: fine-tuned on faces whose captions name hair, glasses and beard at random, it
draws these as chance has it. It is then fine-tuned on other faces, three times alike but for the captions: ours, read
off the pictures; the same captions in another order; and "a person" for all. Everything is LoRA on denoiser and text
encoder, with pictures mixed in that the model draws of some names and things; what is kept is asked of other names and
things. Our captions also hold words that the demo model never learned.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from ...captions.describing import DescribingSettings, describe, in_order
from ...captions.grammar import ANYBODY, VARIED, Grammar
from ...demo.generate import FEW_STEPS
from ...demo.measuring.measure import identification_rate, kinds_right, make_gallery
from ...demo.measuring.prompts import Request, described, name_prompt, named_things
from ...demo.measuring.reader import committed_reader, read
from ...demo.measuring.recognizer import DemoRecognizer
from ...demo.world.language import OPENINGS
from ...demo.world.language import describe as language_describe
from ...demo.world.people import Looks, all_looks, cast, random_geometry
from ...demo.world.renderer import draw, portrait, random_looks
from ...engines.automatic import AUTOMATIC
from ...engines.comfy.denoiser import ComfyDenoiser
from ...engines.comfy.tuning import lora_of
from ...engines.denoiser import LORA, Denoiser
from ...engines.options import Drawing
from ...finetuning.general import general_set, mixed
from ...finetuning.loop import finetuned
from ...finetuning.progress import FinetuningCallbacks
from ...finetuning.settings import FinetuningSettings
from ...finetuning.training_set import TrainingSet, training_set_of
from .new_words import NEW_WORDS, UNKNOWN, NewWordsReader

Parts = tuple[Any, Any, Any]
"""The host's MODEL, CLIP and VAE."""

Status = Callable[[str], None]

WEAK = ("hair", "glasses", "beard")
"""Looks that the weak model does not follow."""

OURS, SHUFFLED, NOTHING = "our captions", "shuffled captions", '"a person"'
ARMS = (OURS, SHUFFLED, NOTHING)

FACES_SEED = 52_000
GUIDANCE = 2.0
SIDE = 96


@dataclass(frozen=True)
class Sizes:
    """How much is learned and drawn.

    Attributes:
        faces: renders that are learned.
        general: pictures that are mixed in: a quarter of what is learned, as the node's help recommends.
        weakening: steps in which the model is made weak.
        steps: of fine-tuning; 0 for as many as the node takes where nothing is said.
        looks, names, new, things: pictures that are drawn of described looks, of people by name, of new words, and of
            named things.
        seeds: of fine-tuning.
        batch: pictures a step.
        drawing: steps of a picture.
        arms: ways of fine-tuning; ours first.
    """

    faces: int = 384
    general: int = 128
    weakening: int = 80
    steps: int = AUTOMATIC
    looks: int = 32
    names: int = 24
    new: int = 32
    things: int = 12
    seeds: tuple[int, ...] = (0, 1, 2)
    batch: int = 16
    drawing: int = 12
    arms: tuple[str, ...] = ARMS


FULL = Sizes()
QUICK = Sizes(8, 1, 1, 1, 4, 1, 1, 1, (0,), 2, FEW_STEPS, (OURS, SHUFFLED))
"""For the way alone: nothing is learned in so few steps."""


@dataclass(frozen=True)
class Followed:
    """What a model draws of what it is asked for, as shares of it.

    Attributes:
        weak: hair, glasses and beard, of those that are described.
        skin: likewise, which no model was made weak in.
        new: wide or narrow faces, long or short fringes.
        names: people who are recognized, by name; none of them was mixed in.
        things: places and mascots that are what they are; likewise.
    """

    weak: float
    skin: float
    new: float
    names: float
    things: float

    @property
    def row(self) -> str:
        """Its figures in a line."""
        return "  ".join(f"{value:>6.3f}" for value in vars(self).values())


HEAD = "  ".join(f"{name:>6}" for name in ("weak", "skin", "new", "names", "things"))


def faces(count: int, seed: int) -> tuple[list[np.ndarray], list[Looks]]:
    """Renders of nobody, and their looks, drawn evenly."""
    rng = np.random.default_rng(seed)
    looks = [random_looks(rng) for _ in range(count)]
    geometry = random_geometry(rng, count)
    pictures = [draw(portrait(rng, one, tuple(map(float, face)))) for one, face in zip(looks, geometry, strict=True)]
    return pictures, looks


def at_random(looks: Looks, rng: np.random.Generator) -> Looks:
    """The same with the weak looks drawn anew."""
    other = random_looks(rng)
    return replace(looks, **{name: getattr(other, name) for name in WEAK})


def worded(rng: np.random.Generator, looks: Looks) -> str:
    """A description in one of the many wordings of the demo's language, so that the model gets weak in all of them."""
    opening = OPENINGS[int(rng.integers(len(OPENINGS)))]
    return f"{opening} {language_describe(rng, looks, complete=True)}".strip()


def general_prompts() -> list[str]:
    """What is mixed in: every other name and thing."""
    return [name_prompt(index).prompt for index in range(0, len(cast()), 2)] + [
        request.prompt for request in list(named_things().values())[::2]
    ]


def captions_of(pictures: Sequence[np.ndarray]) -> list[str]:
    """Our captions, with new words; `ANYBODY` where nothing is said."""
    settings = DescribingSettings(order=VARIED)
    told = in_order(describe(enumerate(pictures), DemoRecognizer(), NewWordsReader(), settings))
    return [one.caption or ANYBODY for one in told]


def denoiser_of(parts: Parts, sizes: Sizes) -> ComfyDenoiser:
    """The parts as a trainer sees them."""
    return ComfyDenoiser(*parts, (SIDE, SIDE), Drawing(sizes.drawing, GUIDANCE, scheduler="normal"))


def lessons(denoiser: ComfyDenoiser, pictures: Sequence[np.ndarray], captions: Sequence[str]) -> TrainingSet:
    """A training set of uint8 pictures."""
    return training_set_of(denoiser, [torch.from_numpy(one).float() / 255 for one in pictures], captions)


def settings_of(steps: int, batch: int, seed: int, new_words: Sequence[str] = ()) -> FinetuningSettings:
    """LoRA on denoiser and text encoder."""
    words = ", ".join(new_words)
    return FinetuningSettings(kind=LORA, steps=steps, batch_size=batch, text_encoder=True, new_words=words, seed=seed)


def weakened(parts: Parts, sizes: Sizes, status: Status) -> Parts:
    """The model after it has learned that hair, glasses and beard mean nothing."""
    import comfy.sd

    denoiser = denoiser_of(parts, sizes)
    rng = np.random.default_rng(FACES_SEED + 3)
    pictures, looks = faces(sizes.faces, FACES_SEED)
    general = general_set(denoiser, general_prompts(), sizes.general)
    wrong = lessons(denoiser, pictures, [worded(rng, at_random(one, rng)) for one in looks])
    callbacks = _told(status, "making it weak")
    with finetuned(denoiser, mixed(wrong, general), settings_of(sizes.weakening, sizes.batch, 0), callbacks) as tuned:
        lora = lora_of(tuned.weights)
    model, clip = comfy.sd.load_lora_for_models(parts[0], parts[1], lora, 1.0, 1.0)
    return model, clip, parts[2]


def _told(status: Status, what: str) -> FinetuningCallbacks:
    def report(done: int, of: int, loss: float) -> None:
        if done % 30 == 0:
            status(f"{what}: step {done} of {of}, loss {loss:.3f}")

    return FinetuningCallbacks(report=report)


AT_ONCE = 16
"""Pictures that are drawn together."""


def followed(denoiser: Denoiser, sizes: Sizes) -> Followed:
    """How a model follows."""
    some = np.random.default_rng(FACES_SEED + 4).permutation(len(described()))[: sizes.looks]
    people = list(range(1, len(cast()), 2))[: sizes.names]
    things = dict(list(named_things().items())[1::2][: sizes.things])
    facts = facts_in_new_words(sizes.new)
    asked = {
        "looks": [described()[n] for n in some],
        "names": [name_prompt(index) for index in people],
        "things": list(things.values()),
        "new": new_requests(facts),
    }
    pictures = drawn(denoiser, [request for requests in asked.values() for request in requests])
    ends = np.cumsum([len(requests) for requests in asked.values()])
    parts = dict(zip(asked, np.split(pictures, ends[:-1]), strict=True))
    looks, seen = [all_looks()[n] for n in some], read(committed_reader(), parts["looks"]).looks
    same = {
        name: float(np.mean([getattr(a, name) == getattr(b, name) for a, b in zip(seen, looks, strict=True)]))
        for name in (*WEAK, "skin")
    }
    named, shown = (read(committed_reader(), parts[name]) for name in ("names", "things"))
    return Followed(
        float(np.mean([same[name] for name in WEAK])),
        same["skin"],
        new_words_followed(parts["new"], facts),
        identification_rate(named, people, make_gallery(committed_reader())),
        kinds_right(shown, list(things)),
    )


def drawn(denoiser: Denoiser, requests: Sequence[Request]) -> np.ndarray:
    """Pictures of requests, uint8 [n, height, width, 3]."""
    groups = [requests[n : n + AT_ONCE] for n in range(0, len(requests), AT_ONCE)]
    found = [
        denoiser.decode(denoiser.sample([one.prompt for one in some], [one.seed for one in some])) for some in groups
    ]
    return (torch.cat(found).float().cpu().clamp(0, 1) * 255).round().to(torch.uint8).numpy()


def facts_in_new_words(count: int) -> list[dict[str, tuple[str, ...]]]:
    """Looks drawn evenly, with faces and fringes of all kinds in turn."""
    grammar = Grammar(NewWordsReader().attributes)
    rng = np.random.default_rng(FACES_SEED + 2)
    asked = []
    for number in range(count):
        facts = {**grammar.parse(random_looks(rng).describe())}
        facts |= {one.name: (one.words[number >> place & 1],) for place, one in enumerate(NEW_WORDS)}
        asked.append(facts)
    return asked


def new_requests(facts: Sequence[dict[str, tuple[str, ...]]]) -> list[Request]:
    """Portraits of such looks."""
    grammar = Grammar(NewWordsReader().attributes)
    return [Request(f"a portrait of {grammar.say(one)}", FACES_SEED + 100 + n) for n, one in enumerate(facts)]


def new_words_followed(pictures: np.ndarray, facts: Sequence[dict[str, tuple[str, ...]]]) -> float:
    """The share of wide and narrow faces, of long and short fringes that are drawn where they are asked for."""
    found = NewWordsReader().read(list(pictures))
    right = [
        one.words[int(found[one.name][number].argmax())] == asked[one.name][0]
        for number, asked in enumerate(facts)
        for one in NEW_WORDS
    ]
    return float(np.mean(right))


def arms(captions: Sequence[str], seed: int) -> dict[str, list[str]]:
    """The captions of each way of fine-tuning."""
    order = np.random.default_rng(FACES_SEED + seed).permutation(len(captions))
    return {OURS: list(captions), SHUFFLED: [captions[n] for n in order], NOTHING: [ANYBODY] * len(captions)}


def follow(parts: Parts, sizes: Sizes, status: Status) -> tuple[dict[str, Followed], dict[str, list[Followed]]]:
    """What the model, the weak model, and the weak model after each way of fine-tuning draw, these for each seed."""
    before = {"the demo model": followed(denoiser_of(parts, sizes), sizes)}
    weak = denoiser_of(weakened(parts, sizes, status), sizes)
    before["made weak"] = followed(weak, sizes)
    for name, found in before.items():
        status(f"{name}: {found.row}")
    pictures, _ = faces(sizes.faces, FACES_SEED + 1)
    ours = captions_of(pictures)
    plain = lessons(weak, pictures, ours)
    after: dict[str, list[Followed]] = {arm: [] for arm in sizes.arms}
    general = general_set(weak, general_prompts(), sizes.general, 1)
    for seed in sizes.seeds:
        captions = arms(ours, seed)
        for arm in sizes.arms:
            learned = mixed(TrainingSet(plain.latents, tuple(captions[arm])), general)
            callbacks = _told(status, f"{arm}, seed {seed}")
            with finetuned(weak, learned, settings_of(sizes.steps, sizes.batch, seed, UNKNOWN), callbacks) as tuned:
                after[arm].append(followed(tuned.denoiser, sizes))
            status(f"{arm}, seed {seed}: {after[arm][-1].row}")
    return before, after
