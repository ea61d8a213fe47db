"""Measures whether a prefix holds on models that were fine-tuned: other checkpoints, and copies that learned a person.

All are made of the demo model *classic*; the prefix was learned on it before and is used unchanged. *Other checkpoints*
share its text encoder: people whom no prefix was learned on are drawn there as on the original. *Personalized* copies
learned a stranger by four photos: in full or by LoRA, the text encoder too, under a new name and beside class pictures,
or by an embedding alone. Each is drawn plain, with the prefix, with its gates open (it acts whatever a prompt says),
with gates that take any name for one, and with the stranger's looks in place of the name: what a copy shows by looks
alone, no prefix can hide. A picture counts as found if the person ranks first, and intervals are Wilson's of 95 %
(docs/METHODS.md 1.6 and 1.8).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ..demo.generate import FEW_STEPS
from ..demo.generate import STEPS as STEPS_DRAWN
from ..demo.host import enter_host
from ..demo.strength import newest_prefix
from ..engines.denoiser import FULL, LORA, Vectors
from ..finetuning.settings import EMBEDDING, FinetuningSettings
from ..prefix.files.prefix_file import load_prefix
from ..prefix.meta_network import is_conditional, with_open_gates
from ..tools.command import run_command
from .support.strangers import stranger
from .transferring.checkpoints import ORIGINAL, checkpoints, moved_by, unseen_ranked
from .transferring.demo import ClassicDemo, told
from .transferring.gates import with_any_name
from .transferring.personalized import NAMES, PLAIN, StrangerColumn, class_pictures, personalized
from .transferring.taught import taught

CHECKPOINTS = "checkpoints"
KINDS = (CHECKPOINTS, FULL, LORA, EMBEDDING)
STEPS = {CHECKPOINTS: 120, FULL: 80, LORA: 120, EMBEDDING: 200}
LEARNED_FROM = 96
"""Pictures that a checkpoint is fine-tuned on."""

NOISES = 2
"""Pictures of each prompt."""

QUICK_STEPS, QUICK_PICTURES, QUICK_NAMED, QUICK_THINGS = 2, 8, 2, 4
OPEN, ANY_NAME = "{}, gates open", "{}, any name"
TAUGHT = "{}, taught on copies"
ASKED_FARTHER, ASKED_PLAIN, ASKED_PROTECTED = 0.05, 0.80, 0.25


def ways_of(files: Sequence[Path], demo: ClassicDemo) -> dict[str, Vectors]:
    """The parameters of prefixes by what their columns are called; conditional ones with other gates as well."""
    ways: dict[str, Vectors] = {}
    for file in files:
        parameters = load_prefix(file).parameters
        ways[file.stem] = parameters
        if is_conditional(parameters):
            ways[OPEN.format(file.stem)] = with_open_gates(parameters)
            ways[ANY_NAME.format(file.stem)] = with_any_name(demo.denoiser, parameters)
    return ways


def taught_ways(files: Sequence[Path], demo: ClassicDemo, quick: bool) -> dict[str, Vectors]:
    """The parameters of conditional prefixes that went on learning on personalized copies, as `ways_of` has them."""
    ways: dict[str, Vectors] = {}
    for file in files:
        parameters = load_prefix(file).parameters
        if is_conditional(parameters):
            amount = {"copies": (FULL,), "rounds": 1} if quick else {}
            steps = dict.fromkeys(STEPS, QUICK_STEPS) if quick else STEPS
            learned = taught(demo, parameters, class_pictures(demo), steps, **amount)
            way = TAUGHT.format(file.stem)
            ways |= {way: learned, OPEN.format(way): with_open_gates(learned)}
            ways[ANY_NAME.format(way)] = with_any_name(demo.denoiser, learned)
    return ways


def tell_what_it_costs(demo: ClassicDemo, ways: Mapping[str, Vectors], quick: bool) -> None:
    """Prints how far prompts that name nobody move on the original, and how often unseen people are found there."""
    print("On the original: pictures of things moved, as a share of what another noise does")
    moved = moved_by(demo, ways, QUICK_THINGS if quick else None)
    for way, share in moved.items():
        found = unseen_ranked(demo, demo.denoiser, ways[way], 1 if quick else NOISES, QUICK_NAMED if quick else None)
        print(f"{way:<46}{share:>8.3f}   people not learned on, rank-1: {told(found.first)}", flush=True)


def on_checkpoints(demo: ClassicDemo, ways: Mapping[str, Vectors], quick: bool) -> dict[str, float]:
    """Prints how often unseen people are found on each checkpoint; for each prefix by how much more at worst."""
    print(f"\nOther checkpoints ({STEPS[CHECKPOINTS]} steps on {LEARNED_FROM} pictures), people not learned on, rank-1")
    print(f"{'':<46}{'weights':>8}{'pictures':>9}  " + "".join(f"{way:<26}" for way in (PLAIN, *ways)), flush=True)
    steps, pictures = (QUICK_STEPS, QUICK_PICTURES) if quick else (STEPS[CHECKPOINTS], LEARNED_FROM)
    rates: dict[str, dict[str, float]] = {}
    for checkpoint in checkpoints(demo, steps, pictures, QUICK_THINGS if quick else None):
        found = {
            way: unseen_ranked(
                demo, checkpoint.denoiser, prefix, 1 if quick else NOISES, QUICK_NAMED if quick else None
            ).first
            for way, prefix in {PLAIN: None, **ways}.items()
        }
        rates[checkpoint.name] = {way: float(np.mean(first)) for way, first in found.items()}
        row = f"{checkpoint.name:<46}{checkpoint.weights_moved:>8.3f}{checkpoint.pictures_moved:>9.3f}  "
        print(row + "".join(f"{told(first):<26}" for first in found.values()), flush=True)
    return {
        way: max(rate[way] for name, rate in rates.items() if name != ORIGINAL) - rates[ORIGINAL][way] for way in ways
    }


def on_personalized(
    demo: ClassicDemo, ways: Mapping[str, Vectors], kind: str, people: int, quick: bool
) -> dict[str, StrangerColumn]:
    """Prints how often strangers are found on copies that learned them in one way, by column."""
    steps = QUICK_STEPS if quick else STEPS[kind]
    settings = FinetuningSettings(kind=kind, steps=steps, text_encoder=kind != EMBEDDING)
    beside = class_pictures(demo)
    columns: dict[str, StrangerColumn] = {}
    for number in range(people):
        made = personalized(
            demo, stranger(demo.recognizer, number), number, settings, beside, ways, 1 if quick else NOISES
        )
        for way, column in made.items():
            columns.setdefault(way, StrangerColumn()).add(column)
        said = ", ".join(f"{way} {np.mean(column.all.first):.2f}" for way, column in made.items())
        print(f"  {kind}, stranger {number + 1}: {said}", flush=True)
    print(f"\nPersonalized, {kind} ({steps} steps), {people} strangers")
    print(f"{'':<46}{'prompts seen, rank-1':<26}{'not seen':<26}{'similarity: mean':>16}{'max':>8}{'faces':>8}")
    for way, column in columns.items():
        every = column.all
        print(
            f"{way:<46}{told(column.seen.first):<26}{told(column.unseen.first):<26}{np.mean(every.similar):>16.3f}"
            f"{np.mean(column.largest):>8.3f}{np.mean(every.faces):>8.3f}",
            flush=True,
        )
    return columns


def main() -> None:
    """Prints the tables, what falls short of what is asked, and the figures last."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prefix", type=Path, nargs="+", help="prefixes of the demo model (the newest of `make demo`)")
    parser.add_argument("--kinds", choices=KINDS, nargs="+", default=KINDS, help="some of it (all)")
    parser.add_argument("--people", type=int, help=f"strangers ({len(NAMES)}, quick 1)")
    parser.add_argument(
        "--teach", action="store_true", help="also have prefixes go on learning on other personalized copies first"
    )
    parser.add_argument("--quick", action="store_true", help="a form of seconds, whose figures say nothing")
    arguments = parser.parse_args()
    people = min(len(NAMES), arguments.people or (1 if arguments.quick else len(NAMES)))
    enter_host()
    files = arguments.prefix or [newest_prefix()]
    demo = ClassicDemo(FEW_STEPS if arguments.quick else STEPS_DRAWN)
    lines, short = [], []
    if CHECKPOINTS in arguments.kinds:
        shipped = {file.stem: load_prefix(file).parameters for file in files}
        for way, more in on_checkpoints(demo, shipped, arguments.quick).items():
            lines.append(f"RATE transfer_checkpoints_more {more:.3f}  {way}")
            if more > ASKED_FARTHER:
                short.append(f"{way}: {more:.3f} more on another checkpoint, asked {ASKED_FARTHER}")
    kinds = [kind for kind in KINDS[1:] if kind in arguments.kinds]
    if arguments.teach and not kinds:
        parser.error("--teach is for personalized copies: name one of their kinds")
    ways = ways_of(files, demo) if kinds else {}
    if ways and arguments.teach:
        ways |= taught_ways(files, demo, arguments.quick)
    if ways:
        tell_what_it_costs(demo, ways, arguments.quick)
    for kind in kinds:
        columns = on_personalized(demo, ways, kind, people, arguments.quick)
        for way, column in columns.items():
            rate = float(np.mean(column.all.first))
            lines.append(f"RATE transfer_{kind} {rate:.3f}  {way}")
            if (way == PLAIN and rate < ASKED_PLAIN) or (way in ways and rate > ASKED_PROTECTED):
                asked = f"at least {ASKED_PLAIN}" if way == PLAIN else f"at most {ASKED_PROTECTED}"
                short.append(f"{kind}, {way}: {rate:.3f}, asked {asked}")
    print("\n" + "\n".join(f"falls short: {line}" for line in short) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    sys.exit(run_command(main))
