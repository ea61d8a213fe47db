"""Measures what a prefix does in some of a drawing's steps alone, on a demo model: where faces get their likeness.

Each row draws the first steps by one text encoder, plain or protected, and the rest by the other, as an artist would
with the host's *ConditioningSetTimestepRange*. Rows that begin plain say how much of looks, places and mascots the
first steps decide, and how late protection may begin; rows that end plain, that it must hold to the end.
`--quick` is a form of a minute whose figures say nothing.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from ..demo.generate import FEW_STEPS, GUIDANCE, SAMPLER, SCHEDULER, STEPS, noise_for, states_of
from ..demo.host import enter_host
from ..demo.loader import CLASSIC, KINDS, load_demo_model
from ..demo.main_job import status
from ..demo.measuring.measure import (
    identification_rate,
    interval,
    kinds_right,
    looks_kept,
    make_gallery,
    preservation,
)
from ..demo.measuring.prompts import Request, name_prompt, named_things, things
from ..demo.measuring.reader import committed_reader, read
from ..demo.strength import newest_prefix
from ..demo.world.people import cast
from ..prefix import Prefix
from ..prefix.files.prefix_file import load_prefix
from ..tools.command import run_command

STARTS = (0.1, 0.2, 0.25, 0.3, 0.5, 0.75)
"""Shares of the schedule that are drawn plain before protection begins."""

ENDS = (0.5, 0.75)
"""Shares after which protection ends."""

GROUP = 32
"""Pictures that are drawn together."""

PLAIN, PROTECTED = "plain", "protected"


class StepsWay(NamedTuple):
    """How a row draws: by `first` for a share of the schedule, by `then` after it."""

    first: str
    then: str
    share: float

    @property
    def title(self) -> str:
        """What people call it."""
        if self.first == self.then:
            return f"all {self.first}"
        return f"{self.share:.0%} {self.first}, then {self.then}"


class StepsFigures(NamedTuple):
    """Of one row; see docs/figures.md, Words."""

    given: float
    unseen: float
    looks: float
    named_things: float
    preservation: float


class StepsBench:
    """A demo model, plain and protected.

    Args:
        steps: of the sampler.
        every: of each list of prompts one in so many is drawn.
    """

    def __init__(self, kind: str, prefix: Prefix, steps: int, every: int) -> None:
        from ..engines.comfy.protected_clip import protect

        self.model, clip, self.vae = load_demo_model(kind=kind)
        self.clips = {PLAIN: clip, PROTECTED: protect(clip, prefix, 1.0)}
        self.steps = steps
        people = cast()
        unseen = [index for index, person in enumerate(people) if person.unseen]
        given = [index for index, person in enumerate(people) if not person.unseen][:: 48 // len(unseen)]
        self.people = {"given": given[::every], "unseen": unseen[::every]}
        self.named = dict(list(named_things().items())[::every])
        self.things, self.other_noise = things()[::every], things(other_noise=True)[::every]
        self.gallery = make_gallery(committed_reader())

    @torch.inference_mode()
    def draw(self, requests: Iterable[Request], way: StepsWay, guidance: float) -> np.ndarray:
        """One picture for each request: uint8 [n, 96, 96, 3]."""
        asked = list(requests)
        told = {by: [states_of(clip, one.prompt) for one in asked] for by, clip in self.clips.items()}
        nothing = {by: states_of(clip, "") for by, clip in self.clips.items()}
        by_length: dict[tuple[int, int], list[int]] = {}
        for place in range(len(asked)):
            by_length.setdefault((told[PLAIN][place].shape[1], told[PROTECTED][place].shape[1]), []).append(place)
        pictures: dict[int, np.ndarray] = {}
        for alike in by_length.values():
            for places in (alike[start : start + GROUP] for start in range(0, len(alike), GROUP)):
                positive = {by: torch.cat([told[by][place] for place in places]) for by in told}
                negative = {by: nothing[by].expand(len(places), -1, -1) for by in nothing}
                noise = noise_for([asked[place].seed for place in places])
                drawn = self._sampled(noise, _in_turn(positive, way), _in_turn(negative, way), guidance)
                pictures.update(zip(places, drawn, strict=True))
        return np.stack([pictures[place] for place in range(len(asked))])

    def _sampled(self, noise: torch.Tensor, positive: Any, negative: Any, guidance: float) -> np.ndarray:
        import comfy.sample

        how = (self.steps, guidance, SAMPLER, SCHEDULER)
        start = torch.zeros_like(noise)
        samples = comfy.sample.sample(self.model, noise, *how, positive, negative, start, disable_pbar=True)
        drawn: np.ndarray = (self.vae.decode(samples).clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
        return drawn

    def measured(self, way: StepsWay, guidance: float) -> StepsFigures:
        """A row's figures."""
        reader, found, looks = committed_reader(), [], []
        for people in self.people.values():
            reading = read(reader, self.draw(map(name_prompt, people), way, guidance))
            found.append(identification_rate(reading, people, self.gallery))
            looks.append(looks_kept(reading, [cast()[index].looks for index in people]))
        named = read(reader, self.draw(self.named.values(), way, guidance))
        all_plain = StepsWay(PLAIN, PLAIN, 1.0)
        plain, other = (self.draw(some, all_plain, guidance) for some in (self.things, self.other_noise))
        moved = preservation(plain, self.draw(self.things, way, guidance), other)
        return StepsFigures(*found, float(np.mean(looks)), kinds_right(named, list(self.named)), moved)


def _in_turn(states: dict[str, torch.Tensor], way: StepsWay) -> list[list[Any]]:
    """Conditioning of the host's: one after the other."""
    if way.first == way.then:
        return [[states[way.first], {}]]
    return [
        [states[way.first], {"start_percent": 0.0, "end_percent": way.share}],
        [states[way.then], {"start_percent": way.share, "end_percent": 1.0}],
    ]


def ways(quick: bool) -> Sequence[StepsWay]:
    """The rows."""
    starts, ends = (STARTS[2:3], ()) if quick else (STARTS, ENDS)
    return (
        StepsWay(PLAIN, PLAIN, 1.0),
        StepsWay(PROTECTED, PROTECTED, 1.0),
        *(StepsWay(PLAIN, PROTECTED, share) for share in starts),
        *(StepsWay(PROTECTED, PLAIN, share) for share in ends),
    )


def main() -> None:
    """Prints a table for each guidance."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prefix", type=Path, help="a prefix for the demo model; else the one that make demo learned")
    parser.add_argument("--model", choices=KINDS, default=CLASSIC, help="which demo model (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="a form of a minute, whose figures say nothing")
    arguments = parser.parse_args()
    chosen = arguments.prefix or newest_prefix()
    enter_host()
    status(f"{chosen.name}, model {arguments.model}")
    quick = arguments.quick
    bench = StepsBench(arguments.model, load_prefix(chosen), FEW_STEPS if quick else STEPS, 16 if quick else 1)
    for guidance in (GUIDANCE,) if quick else (GUIDANCE, 2.5 * GUIDANCE):
        print(f"\n{f'guidance {guidance:g}':<32}" + "".join(f"{name:>14}" for name in StepsFigures._fields))
        for way in ways(quick):
            figures = bench.measured(way, guidance)
            print(f"{way.title:<32}" + "".join(f"{figure:>14.3f}" for figure in figures), flush=True)
    count = len(bench.people["unseen"])
    low, high = interval(0.0, count)
    print(f"\n{count} people of each kind, a picture each: 0 of them found is {low:.2f} to {high:.2f} (95 %)")


if __name__ == "__main__":
    sys.exit(run_command(main))
