"""`make demo-model`: builds the demo's weights anew, stage by stage."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from ...tools.command import run_command
from ...tools.layout import ROOT
from ..host import enter_host
from ..loader import WEIGHTS
from .data import load_or_render
from .stages import MINUTES, forget, mark_done, run, to_do


def main() -> None:
    """Runs the stages that are not done, or the ones named, which go on from what they had learned."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stages", nargs="*", metavar="stage", help=f"{', '.join(MINUTES)} (default: what is missing)")
    parser.add_argument("--minutes", type=float, help="training time of each stage, instead of its default")
    parser.add_argument("--pictures", type=float, default=1.0, help="share of the pictures to learn from")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "demo-model", help="for rendered pictures")
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="where the weights are to be")
    parser.add_argument("--afresh", action="store_true", help="forget all weights first")
    arguments = parser.parse_args()
    if unknown := set(arguments.stages) - set(MINUTES):
        parser.error(f"there is no stage {', '.join(unknown)}: choose from {', '.join(MINUTES)}")
    enter_host()
    if arguments.afresh:
        forget(arguments.folder, arguments.weights)
    missing = to_do(arguments.folder, arguments.weights)
    if arguments.stages or missing:
        load_or_render(arguments.folder, arguments.pictures)
    for stage in arguments.stages or missing:
        print(f"{stage}: starting", flush=True)
        start = time.time()
        run(stage, arguments.folder, arguments.weights, arguments.minutes)
        mark_done(arguments.folder, stage)
        print(f"{stage}: done in {(time.time() - start) / 60:.1f} minutes", flush=True)
    if not arguments.stages and not missing:
        print("All weights are there. Name a stage to go on with it, or give --afresh to start over.")


if __name__ == "__main__":
    sys.exit(run_command(main))
