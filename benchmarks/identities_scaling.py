"""Measures what more people cost: seconds a step and memory must stay flat, set-up may grow with their number.

Runs the trainer on the demo model with 8, 64 and 512 invented names, each in a process of its own: one portrait of each
drawn in few steps, their prompts encoded, then learning. Set-up is all that comes before the first step. Every step
asks the teacher, whose answers would otherwise soon be known of few people. Memory is the peak of the process's own,
from set-up to the end, over the loaded model's; pages of files are not counted, as the system drops them when it needs
room. A machine's speed drifts, so that each number of people is measured several times, in turns.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import median

from ..demo.host import enter_host
from ..tools.command import run_command
from .support.memory import peak_bytes

COUNTS = (8, 64, 512)
STEPS = 40
NOISINGS = 64
"""More than the steps get through even with the fewest people."""

GENERAL = ("", "a red circle", "a blue square in a garden", "a sunset")


def measure(count: int) -> dict[str, float]:
    """Seconds of the set-up and of a step, and peak bytes over the model, for so many people."""
    enter_host()
    from ..demo.loader import load_demo_model
    from ..demo.world.renderer import SIZE
    from ..engines.comfy.denoiser import ComfyDenoiser, Drawing
    from ..trainer.data.identities import Identity
    from ..trainer.progress import Callbacks, Progress
    from ..trainer.settings import TrainingSettings
    from ..trainer.training import learn_prefix

    people = [Identity(f"Person {number:03d}", "a person with brown hair") for number in range(count)]
    denoiser = ComfyDenoiser(*load_demo_model(), (SIZE, SIZE), Drawing(steps=2, cfg=1.0))
    warm = TrainingSettings(
        text_steps=0,
        steps=2,
        batch_size=8,
        portraits_per_identity=1,
        people_drawn=max(COUNTS),
        general_drawn=max(COUNTS),
        snapshot_every=10,
        noisings_per_picture=NOISINGS,
    )
    settings = replace(warm, steps=STEPS)
    moments: list[float] = []

    def report(progress: Progress) -> None:
        if progress.steps:
            moments.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as folder, peak_bytes() as peak:
        # The first, short run makes torch and the host load whatever they load at first use.
        learn_prefix(denoiser, people[:8], GENERAL, warm, runs=Path(folder))
        started = time.perf_counter()
        learn_prefix(denoiser, people, GENERAL, settings, Callbacks(report), runs=Path(folder))
    step = median(later - earlier for earlier, later in itertools.pairwise(moments))
    return {"setup": moments[0] - step - started, "step": step, "memory": peak[0]}


def main() -> None:
    """Prints the figures for each number of people, and the ratios to the smallest last."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, help="only measure this many people, as JSON")
    parser.add_argument("--rounds", type=int, default=3, help="how often each number is measured (%(default)s)")
    arguments = parser.parse_args()
    if arguments.count:
        print(json.dumps(measure(arguments.count)))
        return
    found: dict[int, list[dict[str, float]]] = {number: [] for number in COUNTS}
    for turn in range(arguments.rounds):
        for number in COUNTS if turn % 2 == 0 else COUNTS[::-1]:
            command = [sys.executable, "-m", __spec__.name, "--count", str(number)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found[number].append(json.loads(done.stdout.splitlines()[-1]))
    figures = {number: {key: median(one[key] for one in of) for key in of[0]} for number, of in found.items()}
    for number, entry in figures.items():
        print(
            f"{number} people: set-up {entry['setup']:.2f} s ({1000 * entry['setup'] / number:.0f} ms a person),"
            f" {entry['step']:.3f} s a step, {entry['memory'] / 2**20:.0f} MB over the model",
            flush=True,
        )
    between, most = (figures[number] for number in COUNTS[1:])
    by_person = (most["setup"] - between["setup"]) / (COUNTS[2] - COUNTS[1])
    print(f"RATIO identities_scaling_setup {by_person / (between['setup'] / COUNTS[1]):.3f}")
    for key in ("step", "memory"):
        ratio = median(large[key] / small[key] for large, small in zip(found[COUNTS[2]], found[COUNTS[0]], strict=True))
        print(f"RATIO identities_scaling_{key} {ratio:.3f}")


if __name__ == "__main__":
    sys.exit(run_command(main))
