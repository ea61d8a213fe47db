"""Measures descriptions: how true they are, who follows them, and what prefixes hide that are learned from them.

Faces are such as nobody has seen, rendered, and such as the demo model draws.

What a sentence says is read off the sentence again, by the grammar's inverse, and held against what the picture was
made of: for renders the looks that were drawn, for the model's pictures those of the person who was asked for, so that
there the model's own mistakes count against the description. The reference is the same reader with noise in its logits:
the higher the certainty asked for, the more is to be right of what is said, and the less is to be said.

What a model follows that was fine-tuned on them is `captioning.following`; there our captions are held against the same
captions in another order. What a prefix hides is `captioning.prefixes`.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..captions.describing import CaptionWriter, DescribingSettings, describe, facts_of, in_order
from ..captions.readers import LooksReader
from ..demo.generate import FEW_STEPS, STEPS
from ..demo.host import enter_host
from ..demo.measuring.looks_reader import DemoLooksReader
from ..demo.measuring.recognizer import DemoRecognizer
from ..demo.world.people import Looks, cast, random_geometry
from ..demo.world.renderer import draw, portrait, random_looks
from ..tools.command import run_command
from .captioning.noisy_reader import NOISE, with_noise

TRUTH, FOLLOWING, PREFIX = "truth", "following", "prefix"
"""What is measured."""

FULL, QUICK = (200, 200), (24, 4)
"""Renders, and pictures that the model draws."""

SEEDS = 3

SEED, FIRST_NOISE = 4711, 880_000
LAST = ("caption_precision", "caption_left_out", "looks_followed", "looks_followed_control")
"""The rates that are printed last, in this order."""

NOISES = 8
"""How often noise is drawn."""

CERTAINTIES = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.99)
SLACK = 0.002
"""How much precision may fall from one certainty to the next by chance."""


@dataclass(frozen=True)
class Truth:
    """How much was asked, said, and right."""

    asked: int
    said: int
    right: int

    @property
    def precision(self) -> float:
        """The share of what is said that is true; 1 where nothing is said."""
        return self.right / self.said if self.said else 1.0

    @property
    def left_out(self) -> float:
        """The share of looks of which nothing is said."""
        return 1 - self.said / self.asked

    def __add__(self, other: Truth) -> Truth:
        return Truth(self.asked + other.asked, self.said + other.said, self.right + other.right)


def truth(
    pictures: Sequence[np.ndarray], looks: Sequence[Looks], reader: LooksReader, certainty: float
) -> tuple[Truth, int]:
    """How true the descriptions of pictures are, and how many sentences did not parse back."""
    settings = DescribingSettings(certainty=certainty, order="varied")
    writer = CaptionWriter(reader.attributes, settings)
    told = in_order(describe(enumerate(pictures), DemoRecognizer(), reader, settings))
    asked = said = right = strange = 0
    for one, shown in zip(told, looks, strict=True):
        true = writer.grammar.parse(shown.describe())
        meant = writer.grammar.parse(one.caption) if one.described else {}
        strange += meant != {a.attribute: a.answers for a in one.answers if a.said}
        asked += len(true)
        said += len(meant)
        right += sum(true.get(name) == answers for name, answers in meant.items())
    return Truth(asked, said, right), strange


def rendered(count: int) -> tuple[list[np.ndarray], list[Looks]]:
    """Faces of nobody, with looks drawn evenly."""
    rng = np.random.default_rng(SEED)
    looks = [random_looks(rng) for _ in range(count)]
    faces = random_geometry(rng, count)
    pictures = [draw(portrait(rng, one, tuple(map(float, face)))) for one, face in zip(looks, faces, strict=True)]
    return pictures, looks


def drawn(count: int, steps: int) -> tuple[list[np.ndarray], list[Looks]]:
    """People of the demo as the model draws them by their names, in so many steps."""
    enter_host()
    from ..demo.generate import DemoParts, generate
    from ..demo.loader import load_demo_model

    people = [cast()[number * 5 % len(cast())] for number in range(count)]
    prompts = [f"A close-up portrait of {person.name}" for person in people]
    pictures = generate(DemoParts(*load_demo_model(), steps), prompts, [FIRST_NOISE + n for n in range(count)])
    return list(pictures), [person.looks for person in people]


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints how true descriptions are, what certainty does to a noisy reader, who follows them, and the rates last."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer pictures, and next to nothing is learned")
    parser.add_argument("--only", choices=(TRUTH, FOLLOWING, PREFIX), help="one of the three (all)")
    parser.add_argument(
        "--seeds", type=int, choices=range(1, SEEDS + 1), default=SEEDS, help="of fine-tuning (%(default)s)"
    )
    options = parser.parse_args(arguments)
    asked = (options.only,) if options.only else (TRUTH, FOLLOWING, PREFIX)
    failed, rates = False, []
    if TRUTH in asked:
        failed, told = measured_truth(options.quick)
        rates += told
    if PREFIX in asked:
        rates += measured_prefixes(options.quick)
    if FOLLOWING in asked:
        rates += measured_following(options.quick, options.seeds)
    print("\n".join(in_last_order(rates)))
    return int(failed)


def in_last_order(rates: Sequence[str]) -> list[str]:
    """The lines of rates with those of `LAST` at the end."""
    names = [line.split()[1] for line in rates]
    others = [line for line, name in zip(rates, names, strict=True) if name not in LAST]
    return others + [rates[names.index(name)] for name in LAST if name in names]


def status_since(began: float) -> Callable[[str], None]:
    """Prints lines with the seconds since then."""

    def status(line: str) -> None:
        print(f"{time.monotonic() - began:5.0f} s  {line}", file=sys.stderr, flush=True)

    return status


def measured_prefixes(quick: bool) -> list[str]:
    """Prints what prefixes hide that were learned from written descriptions and from read ones; the rates."""
    enter_host()
    from ..demo.loader import load_demo_model
    from .captioning import prefixes

    sizes = prefixes.QUICK if quick else prefixes.FULL
    others, found = prefixes.compared(load_demo_model(), sizes, status_since(time.monotonic()))
    print(f"\nprefixes of the preset '{sizes.settings.preset}', learned from {sizes.given} people; 95 % intervals")
    print(f"{'':<28} {prefixes.HEAD}")
    for name, hidden in found.items():
        print(f"{name:<28} {hidden.row}")
    told = ", ".join(f"{name} {count}" for name, count in others.items())
    print(f"people whose list says something else than the written one: {told}")
    read, written = found[prefixes.READ], found[prefixes.WRITTEN]
    return [
        f"RATE prefix_identified_written {written.identified[1]:.4f}",
        f"RATE prefix_identified_read {read.identified[1]:.4f}",
        f"RATE prefix_within_interval {read.within(written):d}",
    ]


def measured_following(quick: bool, seeds: int) -> list[str]:
    """Prints what models follow that were fine-tuned on descriptions, with so many seeds; the rates."""
    enter_host()
    from ..demo.loader import load_demo_model
    from .captioning import following

    sizes = following.QUICK if quick else following.FULL
    sizes = replace(sizes, seeds=sizes.seeds[:seeds])
    before, after = following.follow(load_demo_model(), sizes, status_since(time.monotonic()))
    print(f"\nwhat is drawn of what was asked for, {sizes.steps} steps on {sizes.faces} faces")
    print(f"{'':<24} {following.HEAD}")
    for name, found in before.items():
        print(f"{name:<24} {found.row}")
    for name, each in after.items():
        for seed, found in zip(sizes.seeds, each, strict=True):
            print(f"{f'{name}, seed {seed}':<24} {found.row}")
    ours, *controls = (sum(found.weak for found in after[arm]) / len(sizes.seeds) for arm in sizes.arms)
    new = sum(found.new for found in after[following.OURS]) / len(sizes.seeds)
    return [
        f"RATE new_words_before {before['the demo model'].new:.4f}",
        f"RATE new_words_followed {new:.4f}",
        f"RATE looks_followed {ours:.4f}",
        *([f"RATE looks_followed_control {max(controls):.4f}"] if controls else []),
    ]


def measured_truth(quick: bool) -> tuple[bool, list[str]]:
    """Prints how true descriptions are of pictures of either kind; whether that is wrong, and the rates."""
    of_renders, of_drawn = QUICK if quick else FULL
    reader = DemoLooksReader()
    certainty = DescribingSettings().certainty
    kinds = {
        "unseen renders": rendered(of_renders),
        "drawn pictures": drawn(of_drawn, FEW_STEPS if quick else STEPS),
    }
    whole, strange = Truth(0, 0, 0), 0
    print(f"certainty {certainty}, {of_renders} renders, {of_drawn} drawn pictures\n")
    for name, (pictures, looks) in kinds.items():
        found, odd = truth(pictures, looks, reader, certainty)
        whole, strange = whole + found, strange + odd
        print(f"{name:<16} precision {found.precision:.4f}, left out {found.left_out:.4f}")
    print(f"sentences that do not parse back into what made them: {strange}\n")
    noisy = sweep(*kinds["unseen renders"], reader)
    print(f"with noise of {NOISE:g} in the reader's logits, drawn {NOISES} times")
    for asked, found in noisy.items():
        print(f"certainty {asked:<5} precision {found.precision:.4f}, left out {found.left_out:.4f}")
    rows = list(noisy.values())
    pairs = list(itertools.pairwise(rows))
    monotone = all(b.precision >= a.precision - SLACK and b.left_out >= a.left_out for a, b in pairs)
    return not monotone or strange > 0, [
        f"RATE certainty_trades_monotonically {monotone:d}",
        f"RATE caption_precision {whole.precision:.4f}",
        f"RATE caption_left_out {whole.left_out:.4f}",
    ]


def sweep(pictures: Sequence[np.ndarray], looks: Sequence[Looks], reader: LooksReader) -> dict[float, Truth]:
    """How true descriptions by a noisy reader are at each certainty, over the same noises."""
    read = {name: np.asarray(rows, np.float64) for name, rows in reader.read(pictures).items()}
    rng = np.random.default_rng(SEED)
    noisy = [{name: with_noise(rows, rng) for name, rows in read.items()} for _ in range(NOISES)]
    found = {}
    for certainty in CERTAINTIES:
        writer = CaptionWriter(reader.attributes, DescribingSettings(certainty=certainty))
        true = [writer.grammar.parse(shown.describe()) for shown in looks]
        asked = said = right = 0
        for one in noisy:
            for row, shown in enumerate(true):
                meant = facts_of(writer.answers({name: rows[row] for name, rows in one.items()}))
                asked, said = asked + len(shown), said + len(meant)
                right += sum(shown.get(name) == answers for name, answers in meant.items())
        found[certainty] = Truth(asked, said, right)
    return found


if __name__ == "__main__":
    sys.exit(run_command(main))
