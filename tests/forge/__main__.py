"""Runs the checks against a real Forge with one command; see the package."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from anonymize_faces.tests.forge.asking import Check, check_server
from anonymize_faces.tests.forge.comfy_side import write_reference
from anonymize_faces.tools.layout import EXTENSION, ROOT

HERE = Path(__file__).resolve().parent
MOST = 1e-4
"""The largest difference that two implementations of one text encoder may make; embeddings make none."""


def main() -> int:
    """Prints a line for each check; 1 if one does not hold."""
    parser = argparse.ArgumentParser("python -m anonymize_faces.tests.forge", description=__doc__)
    parser.add_argument("--only", choices=("engines", "server"), help="half of it")
    options = parser.parse_args()
    if "FORGE_DIR" not in os.environ:
        parser.error("set FORGE_DIR to the folder of a Forge, and FORGE_PYTHON to its Python")
    forge, python = Path(os.environ["FORGE_DIR"]).resolve(), Path(os.environ.get("FORGE_PYTHON", sys.executable))
    bad = count = 0
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        for name, holds, more in checks(forge, python, folder, options.only):
            count, bad = count + 1, bad + (not holds)
            print(f"{'ok ' if holds else 'BAD'} {name}{f': {more}' if more else ''}", flush=True)
    print(f"{count} checks, {bad} of them bad")
    return int(bad > 0)


def checks(forge: Path, python: Path, folder: Path, only: str | None) -> Iterator[Check]:
    """All of them, or those of one half."""
    if only != "server":
        write_reference(folder)
        for line in _run(python, "engines.py", forge, folder):
            found = json.loads(line.removeprefix("CHECK "))
            limit = 0.0 if "enters" in found["check"] else MOST
            yield found["check"], found["difference"] <= limit, f"differs by {found['difference']:.1e}"
    if only != "engines":
        data = folder / "data"
        (data / "extensions").mkdir(parents=True)
        (data / "extensions" / EXTENSION).symlink_to(ROOT)
        (data / "extensions" / "second-pass").symlink_to(HERE / "second_pass")
        _run(python, "checkpoint.py", forge, data)
        yield from check_server(forge, python, data)


def _run(python: Path, script: str, *arguments: Path) -> list[str]:
    """The lines that a script of this folder, run by Forge's Python, has to say."""
    command = [str(python), str(HERE / script), *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{script} failed:\n{done.stdout[-3000:]}")
    return [line for line in done.stdout.splitlines() if line.startswith("CHECK ")]


if __name__ == "__main__":
    sys.exit(main())
