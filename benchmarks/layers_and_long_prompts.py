"""Measures a prefix at each clip skip that it was learned at, and in prompts of one, two and three chunks.

People whom the prefix never met are drawn by a real server without and with it, from the same noise: how many are
recognized, and in how many pictures there still is a face. The name stands in the first chunk or in a later one. What
the plain model itself does not draw says nothing of the prefix, so its rates are printed beside. At clip skip 2, if the
prefix was not learned there, the server is shown to refuse it.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..demo.main_job import learn, status
from ..demo.measuring.drawing import draw_pictures
from ..demo.measuring.measure import face_retention, identification_rate, make_gallery
from ..demo.measuring.prompts import PER_PROMPT, STYLE, Request
from ..demo.measuring.reader import load_reader, read
from ..demo.world.people import cast
from ..prefix import load_prefix
from ..tools.comfy_server import ComfyServer, WorkflowError

FIRST_SEED = 333_000
LAST, LAST_BUT_ONE = -1, -2
KINDS: dict[tuple[int, str], Callable[[str], str]] = {
    (1, "first"): lambda name: f"A close-up portrait of {name}",
    (2, "first"): lambda name: f"a portrait of {name}, {STYLE}",
    (2, "second"): lambda name: f"{STYLE}a portrait of {name}",
    (3, "first"): lambda name: f"a portrait of {name}, {STYLE}{STYLE}",
    (3, "second"): lambda name: f"{STYLE}a portrait of {name}, {STYLE}",
    (3, "third"): lambda name: f"{STYLE}{STYLE}a portrait of {name}",
}
"""By the number of chunks, and the chunk that the name stands in."""


@dataclass(frozen=True)
class Rates:
    """Shares of pictures: whose person is recognized, and that show a face."""

    identified: float
    faces: float


def main() -> None:
    """Prints all rates of the plain and of the protected model, and the figures of each clip skip and length last."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prefix", type=Path, help="a prefix for the demo model; else one is learned first")
    parser.add_argument("--seed", type=int, help="learn with another seed than the shipped workflow's")
    arguments = parser.parse_args()
    unseen = [index for index, person in enumerate(cast()) if person.unseen]
    who = [index for index in unseen for _ in range(PER_PROMPT)]
    net = load_reader()
    gallery = make_gallery(net)
    rates: dict[tuple[int, int, str], tuple[Rates, Rates]] = {}
    with tempfile.TemporaryDirectory() as folder, ComfyServer(Path(folder), report=status) as server:
        if arguments.prefix is None:
            prefix, _, _ = learn(server, arguments.seed)
        else:
            prefix = "measured.safetensors"
            shutil.copyfile(arguments.prefix, server.prefix_folder / prefix)
        learned = load_prefix(server.prefix_folder / prefix).record.layers.get("l", (LAST,))
        layers = [layer for layer in (LAST, LAST_BUT_ONE) if layer in learned]
        if LAST_BUT_ONE not in layers:
            require_refusal(server, prefix, LAST_BUT_ONE)
        print(f"\n{'clip skip':<10} {'chunks':<7} {'name in':<8} {'recognized':>20} {'faces':>20}")
        for layer in layers:
            for (chunks, place), prompt in KINDS.items():
                status(f"drawing people: clip skip {-layer}, {chunks} chunks")
                requests = [Request(prompt(cast()[index].name), FIRST_SEED + index) for index in unseen]
                readings = [
                    read(net, draw_pictures(server, requests, choice, layer=layer)) for choice in (None, prefix)
                ]
                plain, protected = (
                    Rates(identification_rate(reading, who, gallery), face_retention(reading)) for reading in readings
                )
                rates[layer, chunks, place] = plain, protected
                recognized, faces = (
                    f"{before:.3f} -> {after:.3f}"
                    for before, after in (
                        (plain.identified, protected.identified),
                        (plain.faces, protected.faces),
                    )
                )
                print(f"{-layer:<10} {chunks:<7} {place:<8} {recognized:>20} {faces:>20}", flush=True)
    print()
    for layer in layers:
        for chunks in (1, 2, 3):
            found = [pair for (at, length, _), pair in rates.items() if (at, length) == (layer, chunks)]
            label = f"skip_{-layer}_chunks_{chunks}"
            identified = np.mean([protected.identified for _, protected in found])
            faces = sum(protected.faces for _, protected in found) / max(1e-9, sum(plain.faces for plain, _ in found))
            print(f"RATE {label}_identification {identified:.3f}")
            print(f"RATE {label}_faces_of_plain {faces:.3f}")


def require_refusal(server: ComfyServer, prefix: str, layer: int) -> None:
    """Ends the benchmark if the server draws at a layer that the prefix was not learned at."""
    status(f"drawing at clip skip {-layer}, where it was not learned")
    try:
        draw_pictures(server, [Request(KINDS[1, "first"](cast()[0].name), FIRST_SEED)], prefix, layer=layer)
    except WorkflowError as error:
        if "was learned at" not in error.exception_message:
            raise
        print(f"Clip skip {-layer} is refused: {error}")
        return
    raise SystemExit(f"A prefix that was not learned at clip skip {-layer} was drawn with there.")


if __name__ == "__main__":
    main()
