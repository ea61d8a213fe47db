"""Measures prefixes that were learned from captions of a model's own portraits, beside one from written descriptions.

The people are the same, and so are seed and settings; what differs is who describes them: the demo, in its list;
Describe People's steps, off portraits that the model draws of the names; and the same steps with a reader that has
noise in its logits, which shows what wrong captions do. Lists that are word for word the same are learned from once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...captions.describing import describe, in_order, sayable
from ...captions.people import describe_people
from ...captions.readers import LooksReader
from ...demo.ablation import shipped_prompts
from ...demo.generate import FEW_STEPS, GUIDANCE, STEPS, DemoParts, generate
from ...demo.measuring.looks_reader import DemoLooksReader
from ...demo.measuring.measure import identification_rate, interval, looks_kept, make_gallery
from ...demo.measuring.prompts import PER_PROMPT, name_prompt
from ...demo.measuring.reader import committed_reader, read
from ...demo.measuring.recognizer import DemoRecognizer
from ...demo.world.people import cast, identities
from ...demo.world.renderer import SIZE
from ...engines.comfy.denoiser import ComfyDenoiser
from ...engines.comfy.protected_clip import protect
from ...engines.options import Drawing
from ...prefix import Prefix
from ...trainer.data.identities import Identity, parse_identities
from ...trainer.data.list_text import sameness
from ...trainer.data.prompts import general_prompts
from ...trainer.progress import Callbacks, Progress
from ...trainer.settings import TrainingSettings
from ...trainer.training import learn_prefix
from .noisy_reader import NoisyReader

Parts = tuple[Any, Any, Any]
"""The host's MODEL, CLIP and VAE."""

Status = Callable[[str], None]

WRITTEN, READ, NOISY = "written descriptions", "captions of its portraits", "captions by a noisy reader"

FIRST_PORTRAIT = 890_000
"""Seed of the first portrait that is described; those that are measured have others."""

NOISE_SEED = 4712


@dataclass(frozen=True)
class PrefixSizes:
    """How much is learned and drawn.

    Attributes:
        settings: of learning; the seed is the demo's.
        given: people that are learned from, the demo's first ones.
        people: of the demo's 64 are asked for, the first ones.
        pictures: of each of them.
        portraits: of each person that are described.
        drawing: steps of a picture that is measured.
        arms: lists that are learned from.
    """

    settings: TrainingSettings
    given: int = 48
    people: int = 64
    pictures: int = 1
    portraits: int = 2
    drawing: int = STEPS
    arms: tuple[str, ...] = (WRITTEN, READ, NOISY)


FULL = PrefixSizes(TrainingSettings(preset="quick", seed=1))
QUICK = PrefixSizes(
    TrainingSettings(
        preset="quick", seed=1, conditional=False, text_steps=0, steps=1, harden=0.0, held_out=0.0, batch_size=2,
        people_drawn=1, general_drawn=1, noisings_per_picture=1, drawing_share=0.1,
    ),
    3, 4, 1, 1, FEW_STEPS, (WRITTEN, READ),
)  # fmt: skip
"""For the way alone: nothing is learned in one step."""


@dataclass(frozen=True)
class Hidden:
    """What a prefix leaves, by whether people were given to it: shares, and of how many.

    Attributes:
        identified: pictures in which the named person ranks first, of those given and of those unseen.
        looks: that are kept, likewise.
        pictures: likewise.
    """

    identified: tuple[float, float]
    looks: tuple[float, float]
    pictures: tuple[int, int]

    @property
    def row(self) -> str:
        """Its figures with their 95 % intervals, in a line."""
        told = []
        for shares, each in ((self.identified, 1), (self.looks, LOOKS_READ)):
            for share, count in zip(shares, self.pictures, strict=True):
                low, high = interval(share, each * count)
                told.append(f"{share:.3f} ({low:.3f} to {high:.3f})")
        return "  ".join(f"{one:<23}" for one in told)

    def within(self, other: Hidden) -> bool:
        """Whether each of its shares lies in the other's interval."""
        return all(
            low - ROUNDING <= mine <= high + ROUNDING
            for mine, theirs, count in (
                *zip(self.identified, other.identified, self.pictures, strict=True),
                *zip(self.looks, other.looks, (LOOKS_READ * count for count in self.pictures), strict=True),
            )
            for low, high in (interval(theirs, count),)
        )


ROUNDING = 1e-9
LOOKS_READ = 4
"""Looks of a picture that are read: hair, skin, glasses, beard."""

COLUMNS = ("given people found", "unseen people found", "looks of the given", "looks of the unseen")
HEAD = "  ".join(f"{name:<23}" for name in COLUMNS)


def portraits_of(parts: Parts, people: Sequence[Identity], each: int, steps: int) -> list[tuple[str, np.ndarray]]:
    """Portraits that a model draws of people by their names, and these."""
    names = [person.name for person in people for _ in range(each)]
    prompts = [f"A portrait of {name}" for name in names]
    seeds = [FIRST_PORTRAIT + number for number in range(len(names))]
    return list(zip(names, generate(DemoParts(*parts, steps=steps), prompts, seeds), strict=True))


def list_of(portraits: Sequence[tuple[str, np.ndarray]], reader: LooksReader) -> tuple[Identity, ...]:
    """The list that Describe People makes of portraits."""
    told = in_order(describe(enumerate(picture for _, picture in portraits), DemoRecognizer(), reader))
    pairs = [(portraits[one.picture][0], one) for one in told]
    people = describe_people(pairs, sayable(reader), same=sameness, check=parse_identities)
    return parse_identities("\n".join(person.line for person in people if person.description))


def learned(parts: Parts, people: Sequence[Identity], settings: TrainingSettings, status: Status) -> Prefix:
    """The prefix that is learned from a list, with the demo's general prompts."""
    shown = -1

    def report(progress: Progress) -> None:
        nonlocal shown
        tenths = 10 * progress.done // max(1, sum(progress.of))
        if tenths != shown:
            shown = tenths
            status(f"{progress.stage.name}, {tenths} of 10 done")

    denoiser = ComfyDenoiser(*parts, (SIZE, SIZE), Drawing(STEPS, GUIDANCE))
    prompts = general_prompts(shipped_prompts(), people)
    return learn_prefix(denoiser, people, prompts, settings, Callbacks(report=report)).prefix


def hidden(parts: Parts, prefix: Prefix | None, sizes: PrefixSizes) -> Hidden:
    """Who is found, and which looks are kept, with a prefix, or without one."""
    model, clip, vae = parts
    drawing = DemoParts(model, clip if prefix is None else protect(clip, prefix, 1.0), vae, sizes.drawing)
    who = [index for index in range(sizes.people) for _ in range(sizes.pictures)]
    requests = [name_prompt(index) for index in who]
    seeds = [PER_PROMPT * one.seed + number % sizes.pictures for number, one in enumerate(requests)]
    pictures = generate(drawing, [one.prompt for one in requests], seeds)
    shares = []
    for unseen in (False, True):
        keep = [place for place, index in enumerate(who) if cast()[index].unseen is unseen]
        reading, mine = read(committed_reader(), pictures[keep]), [who[place] for place in keep]
        found = identification_rate(reading, mine, make_gallery(committed_reader()))
        shares.append((found, looks_kept(reading, [cast()[index].looks for index in mine]), len(keep)))
    given, others = shares
    return Hidden((given[0], others[0]), (given[1], others[1]), (given[2], others[2]))


def compared(parts: Parts, sizes: PrefixSizes, status: Status) -> tuple[dict[str, int], dict[str, Hidden]]:
    """How many people each list says something else of than the written one, and what comes of each."""
    written = identities(unseen=(False,))[: sizes.given]
    portraits = portraits_of(parts, written, sizes.portraits, sizes.drawing)
    reader = DemoLooksReader()
    lists = {
        WRITTEN: written,
        READ: list_of(portraits, reader),
        NOISY: list_of(portraits, NoisyReader(reader, NOISE_SEED)),
    }
    others = {name: len(set(written) - set(people)) for name, people in lists.items()}
    status(f"described otherwise than written: {others}")
    found: dict[str, Hidden] = {"without": hidden(parts, None, sizes)}
    done: dict[tuple[Identity, ...], Hidden] = {}
    for name in sizes.arms:
        people = lists[name]
        if people not in done:
            done[people] = hidden(parts, learned(parts, people, sizes.settings, status), sizes)
        found[name] = done[people]
        status(f"{name}: {found[name].row}")
    return others, found
