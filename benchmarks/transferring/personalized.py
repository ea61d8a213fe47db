"""Personalizes copies of the demo model to strangers, and draws them plain, with a prefix, and by looks alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from ...demo.world.people import all_looks
from ...engines.denoiser import Vectors
from ...finetuning.loop import finetuned
from ...finetuning.settings import EMBEDDING, FinetuningSettings
from ...finetuning.training_set import TrainingSet, training_set_of
from ...photos.attack import scores_of
from ..support.strangers import Stranger
from .demo import ClassicDemo, drawn

NAMES = (
    "Marlo Dunwick",
    "Petronel Stavic",
    "Ottilie Brask",
    "Faustin Greer",
    "Ludmil Averyn",
    "Sunniva Holt",
    "Perrin Daleth",
    "Mirabel Onslow",
)
"""What strangers are called while a copy of the model learns them; the demo's world has none of these people."""

SEEN = "a photo of {}"
UNSEEN = ("A close-up portrait of {}", "{} at the beach")
"""Prompts that a copy was fine-tuned with, and that it was not; the first of these is docs/METHODS.md 1.6's."""

ANYBODY = "a person"
"""In the place of a name: what an embedding stands before, and of whom class pictures are."""

CLASS_PICTURES = 8
REPEATED = 6
"""How often each photo stands among what is learned from, beside each class picture once. Without such pictures (prior
preservation, arXiv 2208.12242) the copy shows the stranger whoever is asked for."""

FIRST_SEED = 660_000
PLAIN, DESCRIBED = "plain", "by looks alone"


@dataclass
class StrangerPictures:
    """What came of pictures: whether the stranger ranks first, and how alike the face is; 0 without one."""

    first: list[bool] = field(default_factory=list)
    similar: list[float] = field(default_factory=list)
    faces: list[bool] = field(default_factory=list)

    def add(self, other: StrangerPictures) -> None:
        """Takes more pictures in."""
        self.first += other.first
        self.similar += other.similar
        self.faces += other.faces


@dataclass
class StrangerColumn:
    """Pictures drawn in one way, of prompts that were seen while fine-tuning and of such as were not.

    Attributes:
        largest: similarity of each stranger's most similar picture.
    """

    seen: StrangerPictures = field(default_factory=StrangerPictures)
    unseen: StrangerPictures = field(default_factory=StrangerPictures)
    largest: list[float] = field(default_factory=list)

    def add(self, other: StrangerColumn) -> None:
        """Takes more strangers in."""
        self.seen.add(other.seen)
        self.unseen.add(other.unseen)
        self.largest += other.largest

    @property
    def all(self) -> StrangerPictures:
        """Both."""
        both = StrangerPictures()
        both.add(self.seen)
        both.add(self.unseen)
        return both


@dataclass(frozen=True)
class ClassPictures:
    """What the model itself draws of nobody in particular, with captions."""

    pictures: Sequence[torch.Tensor]
    captions: Sequence[str]


def class_pictures(demo: ClassicDemo) -> ClassPictures:
    """Half of them of a person, half of people of some looks."""
    looks = all_looks()
    half = CLASS_PICTURES // 2
    captions = [SEEN.format(ANYBODY)] * half
    captions += [SEEN.format(looks[place * len(looks) // half].describe()) for place in range(half)]
    pictures = drawn(demo.denoiser, captions, [FIRST_SEED + place for place in range(len(captions))])
    return ClassPictures([torch.from_numpy(picture).float() / 255 for picture in pictures], captions)


def training_set_beside(
    demo: ClassicDemo, photos: Sequence[np.ndarray], name: str, beside: ClassPictures | None
) -> TrainingSet:
    """Photos uint8 `[height, width, 3]` of somebody with captions, and class pictures if there are any."""
    pictures = [torch.from_numpy(photo.copy()).float() / 255 for photo in photos]
    captions = [SEEN.format(name)] * len(pictures)
    if beside is not None:
        pictures, captions = pictures * REPEATED + list(beside.pictures), captions * REPEATED + list(beside.captions)
    return training_set_of(demo.denoiser, pictures, captions)


def personalized(
    demo: ClassicDemo,
    person: Stranger,
    number: int,
    settings: FinetuningSettings,
    beside: ClassPictures,
    prefixes: Mapping[str, Vectors],
    noises: int,
) -> dict[str, StrangerColumn]:
    """Fine-tunes a copy on a stranger's photos and draws them, by column: plain, by looks alone, with each prefix.

    Args:
        number: of the stranger.
        beside: class pictures; an embedding does without.
        prefixes: parameters by the column's name.
        noises: pictures of each prompt.
    """
    is_embedding = settings.kind == EMBEDDING
    name = ANYBODY if is_embedding else NAMES[number]
    learned_from = training_set_beside(demo, person.photos, name, None if is_embedding else beside)
    requests = [(prompt.format(name), noise) for prompt in (SEEN, *UNSEEN) for noise in range(noises)]
    prompts = [prompt for prompt, _ in requests]
    seeds = [FIRST_SEED + 1000 * (1 + number) + noise for _, noise in requests]
    with finetuned(demo.denoiser, learned_from, settings) as tuned:
        ways: dict[str, Vectors | None] = {PLAIN: None, **prefixes}
        if tuned.vectors is None:
            pictures = {way: drawn(tuned.denoiser, prompts, seeds, prefix) for way, prefix in ways.items()}
        else:
            pictures = {
                way: demo.draw_with_embedding(prompts, seeds, tuned.vectors, prefix) for way, prefix in ways.items()
            }
        looks = [prompt.format(person.looks.describe()) for prompt in (SEEN, *UNSEEN) for _ in range(noises)]
        pictures[DESCRIBED] = drawn(tuned.denoiser, looks, seeds)
    return {way: _column(demo, person, drawn_so, noises) for way, drawn_so in pictures.items()}


def _column(demo: ClassicDemo, person: Stranger, pictures: np.ndarray, noises: int) -> StrangerColumn:
    faces, own, first = scores_of(demo.recognizer, list(pictures), person.person)
    similar = np.nan_to_num(own, nan=0.0)
    parts = [
        StrangerPictures(first[some].tolist(), similar[some].tolist(), faces[some].tolist())
        for some in (slice(None, noises), slice(noises, None))
    ]
    return StrangerColumn(parts[0], parts[1], [float(similar.max())])
