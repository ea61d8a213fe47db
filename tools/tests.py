"""Runs all tests, those that wait for pip and for processes of their own beside the others.

`make test` runs it: where there is a second processor, the tests marked `apart` run in a process beside that of all the
others, and what they say comes at the end. `.venv/bin/pytest` runs the same tests one after another.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryFile

from .command import run_command
from .layout import ROOT

COVERAGE = (sys.executable, "-m", "coverage")
PYTEST = (*COVERAGE, "run", "-m", "pytest", "--durations=40", "--durations-min=1")


def main() -> int:
    """Runs all tests; 0 if none failed."""
    if (os.cpu_count() or 1) < 2:
        code = subprocess.run(PYTEST, cwd=ROOT).returncode
        _tell_coverage()
        return code
    with TemporaryFile() as said:
        command = [*PYTEST, "-m", "apart", "-p", "no:cacheprovider"]
        apart = subprocess.Popen(command, cwd=ROOT, stdout=said, stderr=subprocess.STDOUT)
        try:
            others = subprocess.run([*PYTEST, "-m", "not apart"], cwd=ROOT)
            apart.wait()
        finally:
            apart.terminate()
            apart.wait()
        print("\nThe tests that ran beside these:", flush=True)
        said.seek(0)
        shutil.copyfileobj(said, sys.stdout.buffer)
        sys.stdout.flush()
    _tell_coverage()
    return others.returncode or apart.returncode


def _tell_coverage() -> None:
    """Says how much of each room's lines ran in the tests' own processes; what servers ran is not counted."""
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
