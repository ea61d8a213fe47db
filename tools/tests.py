"""Runs all tests, and the type checker, in as many processes as there are processors, at most one for each of `RUNS`.

Not one more: beside two others on two processors a test took up to three times the processor's time.

`make test` runs it: what the first run says comes as it goes, what the others say at the end. `.venv/bin/pytest` runs
the same tests one after another.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

from .command import run_command
from .layout import ROOT

PYTEST = ("-m", "pytest", "--durations=40", "--durations-min=1")
COVERAGE = (sys.executable, "-m", "coverage")
ROOMS = ("captions", "engines", "evaluation", "experts", "faces", "finetuning", "photos", "prefix", "runs", "trainer")
"""Folders whose tests run their code in their own process, which is measured; other code runs in servers."""

COUNTED = sys.version_info >= (3, 12)
"""Whether Python tells of each line but once; where it does so each time, these tests take four minutes more."""

ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
"""Tests compute with tiny tensors: more threads of torch wait for each other, and take three times the processor."""

NO_BYTECODE = "PYTHONDONTWRITEBYTECODE"
"""Images of containers set it, and then each server and command compiles torch and ComfyUI anew, for six seconds."""


@dataclass(frozen=True)
class TestRun:
    """Tests that one process runs one after another.

    Attributes:
        name: what they are, in words.
        arguments: of what runs them.
        measured: whether lines that they run are counted, where `COUNTED`.
        module: what runs them.
    """

    name: str
    arguments: tuple[str, ...] = ()
    measured: bool = False
    module: tuple[str, ...] = PYTEST

    @property
    def command(self) -> list[str]:
        """What runs them."""
        start = [*COVERAGE, "run"] if self.measured and COUNTED else [sys.executable]
        return [*start, *self.module, *self.arguments]


BENCHMARKS = "tests/benchmarks"

_FOLDERS = tuple(f"tests/{room}" for room in ROOMS)
_HERE = ("-m", "not apart", "-p", "no:cacheprovider")
RUNS = (
    TestRun("with real hosts", ("-m", "not apart", *(f"--ignore={folder}" for folder in (*_FOLDERS, BENCHMARKS)))),
    TestRun("of the rooms", (*_HERE, *_FOLDERS), measured=True),
    TestRun("with pip and processes of their own", ("-m", "apart", "-p", "no:cacheprovider")),
    TestRun("of benchmarks", (*_HERE, BENCHMARKS)),
    TestRun("of types", module=("-m", "mypy")),
)
"""All tests, each in one run; the longest first."""


def main() -> int:
    """Runs all tests; 0 if none failed."""
    environment = {**ONE_THREAD, **os.environ}
    environment.pop(NO_BYTECODE, None)
    running: list[subprocess.Popen[bytes]] = []
    first, *others = RUNS

    def run(tests: TestRun, output: IO[bytes] | None = None) -> int:
        process = subprocess.Popen(tests.command, cwd=ROOT, env=environment, stdout=output, stderr=output)
        running.append(process)
        return process.wait()

    processors = ThreadPoolExecutor(min(len(RUNS), os.cpu_count() or 1))
    with ExitStack() as files:
        outputs = [files.enter_context(TemporaryFile()) for _ in others]
        try:
            shown = processors.submit(run, first)
            kept = [processors.submit(run, tests, output) for tests, output in zip(others, outputs, strict=True)]
            codes = [shown.result()]
            for tests, output, code in zip(others, outputs, kept, strict=True):
                codes.append(code.result())
                print(f"\nTests {tests.name}:", flush=True)
                output.seek(0)
                shutil.copyfileobj(output, sys.stdout.buffer)
                sys.stdout.flush()
        finally:
            processors.shutdown(wait=False, cancel_futures=True)
            for process in running:
                process.terminate()
            processors.shutdown()
    _tell_coverage()
    return next(filter(None, codes), 0)


def _tell_coverage() -> None:
    """Says how much of each room's lines its tests ran; what servers ran is not counted."""
    if not COUNTED:
        print("\nHow much of the code they ran is told on Python 3.12 and newer.")
        return
    subprocess.run([*COVERAGE, "combine", "--quiet"], cwd=ROOT)
    said = subprocess.run([*COVERAGE, "json", "--quiet", "-o", "-"], cwd=ROOT, capture_output=True, text=True)
    if said.returncode:
        print(said.stdout + said.stderr, file=sys.stderr)
        return
    rooms: dict[str, list[int]] = {}
    for path, file in json.loads(said.stdout)["files"].items():
        counts = rooms.setdefault(Path(path).parts[0], [0, 0])
        counts[0] += file["summary"]["covered_lines"]
        counts[1] += file["summary"]["num_statements"]
    print("\nLines run by the tests:")
    for room, (covered, lines) in sorted(rooms.items()):
        print(f"{room:12}{100 * covered / max(lines, 1):4.0f} % of {lines}")


if __name__ == "__main__":
    sys.exit(run_command(main))
