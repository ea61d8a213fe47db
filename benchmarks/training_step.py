"""Times one training step of the authors' loop against one of ours, on the same random model laid out like SD1.

The reference (`benchmarks/support/authors_loop.py`) is docs/METHODS.md 1.3 word for word: three forward passes,
gradients on all weights, batch 1. Ours makes one forward pass and one backward pass to the vectors, against a teacher's
answer that is stored: each is asked for once in a run and used several times. What a step takes that must ask is
printed as well.

Times are medians of steps taken in turn in one process. Memory is the peak over the loaded model's own during two
steps, each way in a process of its own, as a process does not give back all that it once had.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

import torch

from ..demo.host import enter_host
from ..tools.command import run_command
from .support.memory import peak_bytes

PIXELS = 256
PROMPT, NEUTRAL = "A portrait of Ada Lovelace in a garden", "A portrait of a woman with dark hair in a garden"
REPEATS = 5
WAYS = ("reference", "ours", "ours, asking the teacher")


@dataclass(frozen=True)
class Way:
    """A step, and what a run goes into once before its steps."""

    step: Callable[[], None]
    run: Callable[[], AbstractContextManager[None]] = nullcontext

    def __call__(self) -> float:
        """Makes a step, and returns the seconds it took."""
        with self.run():
            started = time.perf_counter()
            self.step()
            return time.perf_counter() - started


def make_ways() -> dict[str, Way]:
    """Loads the model and makes everything ready for a step each way."""
    from ..engines.comfy.denoiser import ComfyDenoiser
    from ..engines.micro_batches import MicroBatches
    from ..trainer.data.pictures import Pair, Pictures
    from ..trainer.data.targets import TargetPool
    from ..trainer.settings import TrainingSettings
    from ..trainer.start import start_vectors
    from ..trainer.state import new_state
    from ..trainer.step import make_step
    from .support.authors_loop import Item, reference_step
    from .support.sd1 import sd1_layout

    checkpoint = sd1_layout()
    denoiser = ComfyDenoiser(checkpoint.model, checkpoint.clip, checkpoint.vae, (PIXELS, PIXELS))
    settings = TrainingSettings(batch_size=1, steps=1000)
    latents = torch.randn(1, *denoiser.latent_shape, generator=torch.Generator().manual_seed(0))
    pictures = Pictures(latents, (Pair(PROMPT, NEUTRAL, True),))
    with denoiser.gradients(1):
        state = new_state(start_vectors(denoiser, settings), settings)
    theirs = start_vectors(denoiser, replace(settings, conditional=False))
    optimizer = torch.optim.Adam(theirs.values(), lr=settings.learning_rate)
    micro_batches = MicroBatches(denoiser, 1)
    sampling = checkpoint.model.get_model_object("model_sampling")
    sigma = torch.tensor([float(sampling.percent_to_sigma(0.5))])
    item = Item(denoiser.add_noise(latents, latents.flip(0), torch.tensor([0.5])), sigma, PROMPT, NEUTRAL)
    kept: list[TargetPool] = []

    def ours(asking: bool) -> None:
        if asking or not kept:
            kept[:] = [TargetPool(denoiser, pictures, 1, seed=0)]
        make_step(denoiser, state, kept[0].batch([0]), settings, micro_batches)

    def reference() -> None:
        reference_step(checkpoint.model, checkpoint.clip, theirs, optimizer, [item])

    def run() -> AbstractContextManager[None]:
        return denoiser.gradients(1)

    made = (Way(reference), Way(lambda: ours(False), run), Way(lambda: ours(True), run))
    return dict(zip(WAYS, made, strict=True))


def times(ways: dict[str, Way]) -> dict[str, float]:
    """Median seconds of a step each way, taken in turn after one of each that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(REPEATS + 1):
        for name, way in ways.items():
            taken = way()
            if repeat:
                seconds[name].append(taken)
    return {name: statistics.median(some) for name, some in seconds.items()}


def memory_of(name: str) -> int:
    """Peak bytes of two steps over the loaded model's own, in a fresh process."""
    command = [sys.executable, "-m", __spec__.name, "--memory", name]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stdout.split()[-1])


def main() -> None:
    """Prints what each way takes, and the ratios last."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--memory", choices=WAYS, help="only measure the memory of one way, in bytes")
    only = parser.parse_args().memory
    if only:
        enter_host()
        step = make_ways()[only]
        with peak_bytes() as peak:
            step()
            step()
        print(peak[0])
        return
    memory = {name: memory_of(name) for name in WAYS[:2]}
    enter_host()
    seconds = times(make_ways())
    for name in WAYS:
        held = f", {memory[name] / 2**20:.0f} MB over the model" if name in memory else ""
        print(f"{name}: {seconds[name]:.2f} s{held}")
    asking = seconds[WAYS[2]] / seconds["reference"]
    print(f"a step that asks the teacher takes {asking:.2f} of the reference's time")
    print(f"RATIO training_step_time {seconds['ours'] / seconds['reference']:.3f}")
    print(f"RATIO training_step_memory {memory['ours'] / memory['reference']:.3f}")


if __name__ == "__main__":
    sys.exit(run_command(main))
