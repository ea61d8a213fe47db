"""`make demo-model`: rebuilds the demo's weights, stage by stage. What is there already is skipped unless named."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from ...tools.layout import ROOT
from ..host import enter_host
from .stages import MINUTES, file_of, run


def main() -> None:
    """Runs the stages that are missing, or the ones named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "stages", nargs="*", choices=[*MINUTES, []], help="stages to run (default: all that are missing)"
    )
    parser.add_argument("--minutes", type=float, help="training time of the named stages, instead of their defaults")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "demo-model", help="for rendered pictures")
    parser.add_argument("--weights", type=Path, default=ROOT / "demo" / "weights", help="where the weights go")
    arguments = parser.parse_args()
    enter_host()
    missing = [stage for stage in MINUTES if not file_of(stage, arguments.weights).exists()]
    for stage in arguments.stages or missing:
        print(f"{stage}: starting", flush=True)
        start = time.time()
        run(stage, arguments.folder, arguments.weights, arguments.minutes)
        print(f"{stage}: done in {(time.time() - start) / 60:.1f} minutes", flush=True)


if __name__ == "__main__":
    main()
