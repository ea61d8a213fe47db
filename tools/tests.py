"""Runs all tests, those that wait for pip and for processes of their own beside the others.

`make test` runs it: where there is a second processor, the tests marked `apart` run in a process beside that of all the
others, and what they say comes at the end. `.venv/bin/pytest` runs the same tests one after another.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from tempfile import TemporaryFile

from .command import run_command
from .layout import ROOT

PYTEST = (sys.executable, "-m", "pytest", "--durations=40", "--durations-min=1")


def main() -> int:
    """Runs all tests; 0 if none failed."""
    if (os.cpu_count() or 1) < 2:
        return subprocess.run(PYTEST, cwd=ROOT).returncode
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
    return others.returncode or apart.returncode


if __name__ == "__main__":
    sys.exit(run_command(main))
