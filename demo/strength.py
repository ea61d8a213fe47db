"""`python -m anonymize_faces.demo.strength`: how many people are found again at which strength of a prefix.

Draws the demo's people on a real ComfyUI server with Anonymize Faces at each strength, prints a table and writes the
plot of docs/figures.md.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from ..faces.palette import BLUE, RED
from ..tools.comfy_server import ComfyServer
from ..tools.command import run_command
from ..tools.layout import ROOT
from ..trainer.reporting.chart import Axis, Curve, draw_chart
from .main_job import status
from .measuring.drawing import draw_pictures
from .measuring.measure import identification_rate, make_gallery
from .measuring.prompts import PER_PROMPT, name_prompt
from .measuring.reader import ReaderNet, load_reader, read
from .world.people import cast

if TYPE_CHECKING:
    from PIL.Image import Image

    from ..faces.gallery import Gallery

STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
GROUPS = {"48 people learned on": False, "16 people it never met": True}
"""What a group is called, and whether its people are unseen."""

PREFIXES = ROOT / "build" / "demo" / "server" / "models" / "anonymization_prefixes"
PLOT = ROOT / "docs" / "strength.png"

Rates = Mapping[str, Sequence[float]]


def measure(server: ComfyServer, prefix: str, net: ReaderNet, gallery: Gallery) -> dict[str, list[float]]:
    """Identification rate of each group at each of `STRENGTHS`, with a prefix file that the server has."""
    people = cast()
    who = [i for i in range(len(people)) for _ in range(PER_PROMPT)]
    rates: dict[str, list[float]] = {name: [] for name in GROUPS}
    for strength in STRENGTHS:
        status(f"drawing people at strength {strength:g}")
        pictures = draw_pictures(server, [name_prompt(i) for i in range(len(people))], prefix, strength)
        for name, unseen in GROUPS.items():
            keep = [k for k, i in enumerate(who) if people[i].unseen is unseen]
            rates[name].append(identification_rate(read(net, pictures[keep]), [who[k] for k in keep], gallery))
    return rates


def falls(rates: Rates) -> bool:
    """Whether every group's rate falls, or at least never rises, with strength, and has fallen at the end."""
    return all(all(b <= a for a, b in pairwise(row)) and row[-1] < row[0] for row in rates.values())


def table(rates: Rates) -> str:
    """The rates as lines of the table in docs/figures.md."""
    head = "| strength | " + " | ".join(f"{strength:g}" for strength in STRENGTHS) + " |"
    rows = [f"| {name} | " + " | ".join(f"{rate:.2f}" for rate in row) + " |" for name, row in rates.items()]
    return "\n".join([head, "|---" * (1 + len(STRENGTHS)) + "|", *rows])


def plot(rates: Rates) -> Image:
    """The rates over strength."""
    colours = dict(zip(rates, (RED, BLUE), strict=True))
    across = Axis(0, 1, [(strength, f"{strength:g}") for strength in STRENGTHS])
    up = Axis(0, 1, [(tenth / 5, f"{tenth / 5:g}") for tenth in range(6)])
    curves = [
        Curve(list(zip(STRENGTHS, row, strict=True)), colours[name], dots=True) for name, row in reversed(rates.items())
    ]
    return draw_chart("People found again", "strength", across, up, curves, list(colours.items()))


def newest_prefix() -> Path:
    """The prefix that `make demo` learned last."""
    files = sorted(PREFIXES.glob("*.safetensors"), key=lambda path: path.stat().st_mtime)
    if not files:
        raise SystemExit(f"There is no prefix in {PREFIXES}: run 'make demo' first, or name one with --prefix.")
    return files[-1]


def main() -> None:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prefix", type=Path, help="a prefix for the demo model; else the one that make demo learned")
    parser.add_argument("--plot", type=Path, default=PLOT, help="where the plot goes")
    arguments = parser.parse_args()
    chosen = arguments.prefix or newest_prefix()
    net = load_reader()
    with ComfyServer(report=status) as server:
        shutil.copyfile(chosen, server.prefix_folder / "strength.safetensors")
        rates = measure(server, "strength.safetensors", net, make_gallery(net))
    arguments.plot.parent.mkdir(parents=True, exist_ok=True)
    plot(rates).save(arguments.plot)
    print(f"\nidentification rate by strength of {chosen.name}\n\n{table(rates)}\n\n{arguments.plot}")
    if not falls(rates):
        raise SystemExit("The identification rate does not fall with every step of strength: see the table.")


if __name__ == "__main__":
    sys.exit(run_command(main))
