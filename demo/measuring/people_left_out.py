"""`python -m anonymize_faces.demo.measuring.people_left_out`: measures a recipe on people whom it does not learn from.

What is chosen of a recipe must not be chosen with the evaluation in view, whose unseen people and whose named places
and mascots are never asked about here. Some of the people given are left out instead, and drawn by their names, said
once and three times. Prints the validation's scores, then at each guidance the share of pictures in which they are
recognized and the share of their looks that is kept, then all as JSON in a line that begins with RESULT.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...tools.command import run_command
from ..ablation import changes_of, learn, parser_of
from ..host import enter_host
from ..world.people import Person, cast
from .report import GUIDANCES

WAYS = {"once": "A close-up portrait of {0}", "three times": "{0}, {0}, a portrait of {0}"}
"""How they are named."""

PICTURES = 8
"""Of each of them, at each guidance and in each way."""

FIRST_SEED = 555_000


def left_out(count: int, seed: int) -> tuple[int, ...]:
    """Places in the cast of so many of the people given, drawn by a seed, each of other looks."""
    given = [index for index, person in enumerate(cast()) if not person.unseen]
    drawn = np.random.default_rng(seed).permutation(given)
    first_of = {cast()[index].looks: int(index) for index in reversed(drawn)}
    return tuple(sorted(sorted(first_of.values(), key=list(drawn).index)[:count]))


def measure(kind: str, changes: dict[str, Any], weights: Path, count: int, seed: int) -> dict[str, Any]:
    """Settings, validation scores, seconds, and the figures by way and guidance.

    Args:
        kind, changes, weights: see `ablation.learn_and_measure`.
        count, seed: of the people left out.

    Raises:
        AnonymizationError: a setting is out of range, or learning ended without a prefix.
    """
    from ...trainer.data.identities import Identity
    from ..generate import generate
    from .measure import identification_rate, looks_kept, make_gallery
    from .reader import load_reader, read

    out = left_out(count, seed)

    def listed(person: Person) -> Identity:
        return Identity(person.name, person.looks.describe())

    people = [listed(person) for index, person in enumerate(cast()) if not person.unseen and index not in out]
    _, prefixed, learned = learn(kind, people, changes, weights)
    scores = [(score.step, round(score.identities, 4), round(score.general, 4)) for score in learned.scores]
    print(f"  best step {learned.best.step} of {scores}", flush=True)
    net = load_reader(weights)
    gallery = make_gallery(net)
    who = [index for index in out for _ in range(PICTURES)]
    found: dict[str, Any] = {}
    for way, words in WAYS.items():
        for guidance in GUIDANCES:
            prompts = [words.format(cast()[index].name) for index in who]
            seeds = [FIRST_SEED + place for place in range(len(who))]
            reading = read(net, generate(prefixed, prompts, seeds, guidance=guidance))
            found[f"{way}, guidance {guidance:g}"] = figures = {
                "recognized": round(identification_rate(reading, who, gallery), 4),
                "looks": round(looks_kept(reading, [cast()[index].looks for index in who]), 4),
            }
            print(f"  {way}, guidance {guidance:g}: {figures}", flush=True)
    return {
        "model": kind,
        "changes": changes,
        "left_out": seed,
        "scores": scores,
        "best": learned.best.step,
        "drawing_seconds": learned.drawing_seconds,
        "learning_seconds": learned.learning_seconds,
        "figures": found,
    }


def main() -> None:
    """Learns with the given changes and prints what came of it."""
    parser = parser_of(__doc__)
    parser.add_argument("--people", type=int, default=8, help="how many are left out, 1 to 16")
    parser.add_argument("--draw", type=int, default=101, help="the seed that draws them")
    arguments = parser.parse_args()
    if not 1 <= arguments.people <= 16:
        parser.error("--people must be 1 to 16")
    enter_host(cpu=not torch.cuda.is_available())
    changes = changes_of(arguments.changes)
    result = measure(arguments.model, changes, arguments.weights, arguments.people, arguments.draw)
    print(f"RESULT {json.dumps(result)}")


if __name__ == "__main__":
    sys.exit(run_command(main))
