"""Counts the teacher's answers a second of one process, and of two that share the work and one file.

Each way runs as `accelerate launch` would have it, on the demo model behind a pipeline of diffusers, every process on
one thread of one core; the clock runs from when all are ready to when everybody knows every answer. On a machine with
fewer than two cores for them, two processes can be no faster than one.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ..tools.command import run_command

PICTURES = 24
NOISINGS = 8
BATCH = 8


def measure(folder: Path) -> float:
    """Answers a second of this process's team."""
    import torch

    from ..demo.diffusers_folder import demo_pipeline
    from ..engines.diffusers.denoiser import DiffusersDenoiser
    from ..engines.micro_batches import MicroBatches
    from ..runs.tensor_store import TensorStore
    from ..trainer.data.pictures import Pair, Pictures
    from ..trainer.data.targets import TargetPool
    from ..trainer.parallel.accelerate_team import team_of_this_process
    from ..trainer.parallel.shared_work import compute, in_turn

    torch.set_num_threads(1)
    team = team_of_this_process()
    denoiser = DiffusersDenoiser(demo_pipeline(), (64, 64))
    pairs = tuple(Pair(f"Person {index}", "a person with brown hair", True) for index in range(PICTURES))
    latents = torch.randn(PICTURES, *denoiser.latent_shape, generator=torch.Generator().manual_seed(0))
    path = folder / "targets.safetensors"
    slots = range(PICTURES * NOISINGS)
    answers = in_turn(team, lambda: TensorStore(len(slots), denoiser.latent_shape, path))
    pool = TargetPool(
        denoiser, Pictures(latents, pairs), NOISINGS, 0, answers, MicroBatches(denoiser, BATCH), overshoot=0.2
    )
    with denoiser.gradients(BATCH):
        pool.prepare(slots[:BATCH])  # What torch loads at first use.
        team.wait()
        started = time.perf_counter()
        compute(team, answers, slots[BATCH:], pool.prepare)
        team.wait()
        seconds = time.perf_counter() - started
    return len(slots[BATCH:]) / seconds


def launch(processes: int) -> float:
    """Answers a second of so many processes."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    with tempfile.TemporaryDirectory() as folder:
        command += ["-m", __spec__.name, "--folder", folder]
        done = subprocess.run(
            command, env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE
        )
        done.check_returncode()
        return float((Path(folder) / "rate").read_text(encoding="utf-8"))


def main() -> None:
    """Prints both rates and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="only measure in this process's team, and write the rate there")
    folder = parser.parse_args().folder
    if folder is not None:
        rate = measure(folder)
        if os.environ.get("RANK", "0") == "0":
            (folder / "rate").write_text(str(rate), encoding="utf-8")
        return
    rates = {processes: launch(processes) for processes in (1, 2)}
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    print(f"{PICTURES * NOISINGS} answers of the demo model, {cores} cores")
    for processes, rate in rates.items():
        name = "1_process" if processes == 1 else f"{processes}_processes"
        print(f"RATE targets_per_second_{name} {rate:.2f}")
    print(f"RATIO two_processes_to_one {rates[2] / rates[1]:.3f}")


if __name__ == "__main__":
    sys.exit(run_command(main))
