"""Makes other checkpoints of the demo model by fine-tuning its denoiser: another style, other things, both."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ...demo.measuring.measure import preservation
from ...demo.measuring.reader import read
from ...demo.world.drawing import CANVAS, Rgb
from ...demo.world.language import PLACES as WORDS_FOR_PLACES
from ...demo.world.language import caption
from ...demo.world.people import THING_PROMPTS, cast
from ...demo.world.renderer import SIZE, draw, picture_of, random_jitter, random_picture
from ...demo.world.scenery import PLACES, background
from ...demo.world.things import OBJECTS, draw_object
from ...engines.denoiser import Denoiser, Vectors
from ...faces.recognizer import cosine_similarities
from ...faces.scoring import Ranked, rank
from ...finetuning.loop import finetuned
from ...finetuning.settings import FinetuningSettings
from ...finetuning.training_set import TrainingSet, training_set_of
from .demo import ClassicDemo, drawn

ORIGINAL, STYLE, THINGS, MERGED = "the original", "another drawing style", "other things", "both merged"
SEED = 31
BATCH = 8
FIRST_SEED = 640_000

MORE_COLOUR, INK = 1.3, 0.4
"""Of the other style: how much further from grey colours are, and how dark outlines."""

NEW_COLOURS: dict[str, Rgb] = {"pink": (244, 150, 190), "white": (240, 240, 236), "silver": (168, 172, 180)}
"""Colours in which the demo's model never saw a thing."""


class Checkpoint(NamedTuple):
    """One that shares the text encoder of the original.

    Attributes:
        name: for people.
        denoiser: draws with its weights.
        weights_moved: size of what was added to the weights, as a share of theirs.
        pictures_moved: how far pictures of things moved, as a share of what another noise does.
    """

    name: str
    denoiser: Denoiser
    weights_moved: float
    pictures_moved: float


def checkpoints(demo: ClassicDemo, steps: int, pictures: int, things_drawn: int | None = None) -> Iterator[Checkpoint]:
    """The original and three others.

    Args:
        steps: of fine-tuning.
        pictures: that are learned from.
        things_drawn: of so many prompts, to see how far pictures moved; all if it is None.
    """
    prompts, seeds, before, other_noise = _things_before(demo, things_drawn)
    yield Checkpoint(ORIGINAL, demo.denoiser, 0.0, 0.0)
    style = _added(demo, style_pictures(pictures), steps)
    things = _added(demo, thing_pictures(pictures), steps)
    merged = {name: (style[name] + things[name]) / 2 for name in style}
    for name, added in {STYLE: style, THINGS: things, MERGED: merged}.items():
        weights = {key: weight + added[key] if key in added else weight for key, weight in demo.weights.items()}
        denoiser = demo.with_weights(weights)
        moved = sum(float(rows.square().sum()) for rows in added.values())
        size = sum(float(demo.weights[key].square().sum()) for key in added)
        yield Checkpoint(
            name, denoiser, (moved / size) ** 0.5, preservation(before, drawn(denoiser, prompts, seeds), other_noise)
        )


def moved_by(demo: ClassicDemo, ways: Mapping[str, Vectors], things_drawn: int | None = None) -> dict[str, float]:
    """How far prefixes move pictures of things on the original, as a share of what another noise does.

    Args:
        ways: parameters by the prefix's name.
        things_drawn: see `checkpoints`.
    """
    prompts, seeds, plain, other_noise = _things_before(demo, things_drawn)
    return {
        way: preservation(plain, drawn(demo.denoiser, prompts, seeds, prefix), other_noise)
        for way, prefix in ways.items()
    }


def unseen_ranked(
    demo: ClassicDemo, denoiser: Denoiser, prefix: Vectors | None, noises: int, people: int | None = None
) -> Ranked:
    """How pictures of people whom no prefix was learned on stand to them, in the gallery of the whole cast.

    Args:
        noises: pictures of each.
        people: how many of them; all if it is None.
    """
    who = [index for index, person in enumerate(cast()) if person.unseen][:people]
    each = [index for index in who for _ in range(noises)]
    seeds = [FIRST_SEED + 2000 + 100 * index + number for index in who for number in range(noises)]
    pictures = drawn(denoiser, [f"A close-up portrait of {cast()[index].name}" for index in each], seeds, prefix)
    reading = read(demo.net, pictures)
    return rank(reading.face, reading.embeddings, np.array(each), demo.gallery, cosine_similarities)


def style_pictures(count: int) -> list[tuple[np.ndarray, str]]:
    """People of the cast whom prefixes may be learned on, strangers and things in the other style, with captions."""
    rng = np.random.default_rng(SEED)
    given = [index for index, person in enumerate(cast()) if not person.unseen]
    made = []
    for number in range(count):
        if number % 3 == 0:
            index = int(rng.choice(given))
            picture = picture_of(rng, cast()[index], index)
        else:
            picture = random_picture(rng, "person" if number % 3 == 1 else str(rng.choice(OBJECTS)))
        made.append((styled(draw(picture)), caption(rng, picture)))
    return made


def thing_pictures(count: int) -> list[tuple[np.ndarray, str]]:
    """Things in `NEW_COLOURS`, with captions."""
    rng = np.random.default_rng(SEED + 1)
    return [_thing(rng) for _ in range(count)]


def styled(pixels: np.ndarray) -> np.ndarray:
    """A picture uint8 `[height, width, 3]` in the other style: stronger colours, and dark outlines."""
    values = pixels.astype(np.float32) / 255
    grey = values.mean(-1, keepdims=True)
    down, right = (np.abs(np.diff(grey, axis=axis, append=grey.take([-1], axis))) for axis in (0, 1))
    values = (grey + MORE_COLOUR * (values - grey)) * (1 - INK * np.clip(4 * (down + right), 0, 1))
    return (values.clip(0, 1) * 255).round().astype(np.uint8)


def _thing(rng: np.random.Generator) -> tuple[np.ndarray, str]:
    kind, colour, place = (str(rng.choice(list(some))) for some in (OBJECTS, NEW_COLOURS, PLACES))
    image = background(place, random_jitter(rng))
    draw_object(image, kind, NEW_COLOURS[colour], PLACES[place][0], random_jitter(rng))
    assert image.width == CANVAS
    pixels = np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BOX), dtype=np.uint8)
    where = WORDS_FOR_PLACES[place]
    return pixels, f"a picture of a {colour} {kind} {where[int(rng.integers(len(where)))]}"


def _things_before(demo: ClassicDemo, count: int | None) -> tuple[list[str], list[int], np.ndarray, np.ndarray]:
    """Prompts of things with their seeds, and what the original draws of them, from these and from other noises."""
    prompts = list(THING_PROMPTS[:count])
    seeds = [FIRST_SEED + place for place in range(len(prompts))]
    other_noise = drawn(demo.denoiser, prompts, [seed + 1000 for seed in seeds])
    return prompts, seeds, drawn(demo.denoiser, prompts, seeds), other_noise


def _added(demo: ClassicDemo, pictures: Sequence[tuple[np.ndarray, str]], steps: int) -> dict[str, Tensor]:
    """What fine-tuning adds to the denoiser's weights, by name."""
    training_set = _training_set(demo.denoiser, pictures)
    settings = FinetuningSettings(steps=steps, batch_size=BATCH, seed=SEED)
    with finetuned(demo.denoiser, training_set, settings) as tuned:
        return added_by_name(demo.weights, tuned.weights)


def _training_set(denoiser: Denoiser, pictures: Sequence[tuple[np.ndarray, str]]) -> TrainingSet:
    tensors = [torch.from_numpy(pixels.copy()).float() / 255 for pixels, _ in pictures]
    return training_set_of(denoiser, tensors, [words for _, words in pictures])


def added_by_name(weights: Mapping[str, Tensor], learned: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What was learned, by the name of the weight that it is added to."""
    added = {}
    for name, tensor in learned.items():
        key = name.removeprefix("model.diffusion_model.").removesuffix(".added")
        if key not in weights:
            raise KeyError(f"the demo's denoiser has no weight '{key}'")
        added[key] = tensor.detach().clone().cpu()
    return added
