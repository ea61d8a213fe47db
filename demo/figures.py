"""`python -m anonymize_faces.demo.figures`: the demo with several seeds; the worst of each figure counts.

Writes the table of docs/figures.md. Broken off, the same command goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from ..tools.command import run_command
from ..tools.layout import BUILD, ROOT
from .kept import digest_of_inputs
from .main_job import run
from .report import markdown_table, print_table, worst_of_seeds

SEEDS = (0, 1, 2)
PAGE = ROOT / "docs" / "figures.md"
BEGIN, END = "<!-- demo figures -->", "<!-- end of demo figures -->"


def with_table(page: str, table: str) -> str:
    """The page with the table between its two marks.

    Raises:
        SystemExit: the page has no such marks.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise SystemExit(f"The page has no place for the table: put {BEGIN} and {END} where it is to be.")
    return f"{before}{begin}\n{table}\n{end}{after}"


def done(file: Path, seed: int) -> dict[str, Any] | None:
    """The report of a seed that came to its end with the same code, weights and host; None if there is none."""
    try:
        report = json.loads(file.read_text(encoding="utf-8"))
        return report if report["inputs"] == digest_of_inputs(seed=seed) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def main() -> None:
    """Runs the demo with each seed that has no report of the same code yet, then writes the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS, help="of the trainer (%(default)s)")
    parser.add_argument("--output", type=Path, default=BUILD / "figures", help="where reports and pictures go")
    parser.add_argument("--page", type=Path, default=PAGE, help="the page with the table")
    arguments = parser.parse_args()
    page = arguments.page.read_text(encoding="utf-8")
    with_table(page, "")
    reports = []
    for seed in arguments.seeds:
        print(f"Seed {seed}", flush=True)
        folder = arguments.output / f"seed {seed}"
        reports.append(done(folder / "report.json", seed) or run(folder, seed))
    report = worst_of_seeds(reports)
    (arguments.output / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    seeds = ", ".join(str(seed) for seed in report["seeds"])
    told = f"The worst of seeds {seeds}; {report['steps']} steps.\n\n{markdown_table(report)}"
    arguments.page.write_text(with_table(page, told), encoding="utf-8")
    if not print_table(report):
        raise SystemExit("A figure falls short of what is asked: see the table.")


if __name__ == "__main__":
    sys.exit(run_command(main, "It was interrupted; the same command goes on where it was."))
