"""Several processes, started by `accelerate launch`, learn what one process learns."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from anonymize_faces.cli import main
from anonymize_faces.prefix import Prefix, load_prefix
from anonymize_faces.runs.run_folder import TABLE
from anonymize_faces.tests.support.pipelines import tiny_pipeline
from anonymize_faces.tests.support.prefixes import numbers
from anonymize_faces.tools.layout import ROOT

pytestmark = pytest.mark.apart
OPTIONS: Mapping[str, Any] = {
    "width": 64,
    "height": 64,
    "drawing-steps": 1,
    "steps": 50,
    "text-steps": 1,
    "batch-size": 8,
    "vectors": 3,
    "learning-rate": 0.0014,
    "portraits-per-identity": 1,
    "general-drawn": 8,
    "held-out": 0,
    "noisings-per-picture": 4,
    "snapshot-every": 2,
    "device": "cpu",
    "harden": 0,  # Each process makes embeddings of names of its own: as strong, but not the same.
}
PATIENCE = 400
"""Seconds for what takes some ten on a machine that nothing else uses."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    tiny_pipeline("sd1").save_pretrained(folder)
    return folder


def arguments(model: Path, folder: Path) -> list[str]:
    """The same run, with the files in a folder."""
    folder.mkdir(exist_ok=True)
    (folder / "people.txt").write_text("Ada Lovelace: a woman\nBob Miller: a man\nCy Young\n", encoding="utf-8")
    (folder / "general.txt").write_text("a red circle\na dog\n", encoding="utf-8")
    paths = {
        "model": model,
        "identities": folder / "people.txt",
        "general-prompts": folder / "general.txt",
        "output": folder / "learned.safetensors",
        "runs": folder / "runs",
    }
    return ["train", "--quiet", *(f"--{name}={value}" for name, value in {**paths, **OPTIONS}.items())]


def launch(processes: int, *command: str) -> subprocess.Popen[str]:
    """`accelerate launch` in the repository's root, as a user calls it."""
    kind = ["--multi_gpu", f"--num_processes={processes}", "--num_machines=1", "--mixed_precision=no"]
    kind += ["--dynamo_backend=no", "--main_process_port=0"]
    launcher = [sys.executable, "-m", "accelerate.commands.launch", *kind, "-m", "trainer", *command]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        launcher, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


@pytest.fixture(scope="module")
def alone(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Prefix:
    """What one process learns."""
    folder = tmp_path_factory.mktemp("alone")
    assert main(arguments(model, folder)) == 0
    return load_prefix(folder / "learned.safetensors")


def require_same(prefix: Prefix, alone: Prefix) -> None:
    assert prefix.record.steps == 50 and prefix.record.scores["best_step"] == alone.record.scores["best_step"]
    one, other = numbers(prefix), numbers(alone)
    assert float((one - other).norm() / other.norm()) <= 1e-3


def test_two_processes_with_half_a_batch_each_learn_what_one_does(model: Path, alone: Prefix, tmp_path: Path) -> None:
    process = launch(2, *arguments(model, tmp_path))
    try:
        said, _ = process.communicate(timeout=PATIENCE)
    finally:
        end(process)
    assert process.returncode == 0, said[-3000:]
    assert said.count("Learned a prefix") == 1
    require_same(load_prefix(tmp_path / "learned.safetensors"), alone)
    assert list((tmp_path / "runs").iterdir()) == []


def test_killing_one_of_four_ends_the_run_with_its_snapshot_and_another_number_goes_on(
    model: Path, alone: Prefix, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = arguments(model, tmp_path)
    process = launch(4, *command)
    try:
        wait_for_snapshot(tmp_path / "runs", process)
        worker(process, rank=3).kill()
        said, _ = process.communicate(timeout=PATIENCE)
    finally:
        end(process)
    assert process.returncode not in (0, None) and not (tmp_path / "learned.safetensors").exists(), said[-3000:]
    assert main(command) == 0
    assert "went on from step" in capsys.readouterr().out
    require_same(load_prefix(tmp_path / "learned.safetensors"), alone)


def end(process: subprocess.Popen[str]) -> None:
    """Ends the launcher and all that it started."""
    with contextlib.suppress(psutil.NoSuchProcess):
        for one in [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
    process.wait()


def wait_for_snapshot(runs: Path, process: subprocess.Popen[str]) -> None:
    """Until the run has made some steps, and saved them."""
    from safetensors import safe_open

    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        for path in runs.glob("*/snapshot.safetensors"):
            with safe_open(path, "pt") as file:
                if '"step": 0' not in file.metadata()[TABLE]:
                    return
        time.sleep(0.01)
    pytest.fail(f"No snapshot was saved: {process.communicate()[0][-3000:] if process.poll() is not None else ''}")


def worker(process: subprocess.Popen[str], rank: int) -> psutil.Process:
    """One of the processes that learn."""
    for child in psutil.Process(process.pid).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if child.environ().get("RANK") == str(rank):
                return child
    pytest.fail(f"No process has the rank {rank}.")


def test_rows_of_all_processes_are_stored_once(tmp_path: Path) -> None:
    from anonymize_faces.runs.tensor_store import TensorStore
    from anonymize_faces.trainer.parallel.shared_work import mask
    from anonymize_faces.trainer.parallel.team import share

    class Two:
        count = 2

        def __init__(self, rank: int) -> None:
            self.rank = rank

    path = tmp_path / "rows.safetensors"
    stores = [TensorStore(5, (2,), path) for _ in range(2)]
    for rank, rows in enumerate(stores):
        for index in share(Two(rank), range(5)):
            rows.put(index, torch.full((2,), float(index)))
        rows.sync()
    for rows in stores:
        rows.adopt(range(5))
        assert mask(rows).all() and [rows[index].tolist() for index in range(5)] == [[float(i)] * 2 for i in range(5)]
    assert path.stat().st_size < 5 * 2 * 4 + 200
