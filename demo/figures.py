"""`python -m anonymize_faces.demo.figures`: the demo of each model with several seeds; the worst of each figure counts.

Writes the tables of docs/figures.md. Broken off, the same command goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..tools.command import run_command
from ..tools.layout import BUILD, ROOT
from .kept import digest_of_inputs
from .loader import KINDS
from .main_job import run
from .measuring.report import markdown_table, print_table, worst_of_seeds

SEEDS = (0, 1, 2)
PAGE = ROOT / "docs" / "figures.md"


def marks(model: str) -> tuple[str, str]:
    """What stands before and behind a model's table on the page."""
    return f"<!-- figures of {model} -->", f"<!-- end of figures of {model} -->"


def with_table(page: str, table: str, model: str) -> str:
    """The page with the table between the two marks of a model.

    Raises:
        SystemExit: the page has no such marks.
    """
    first, last = marks(model)
    before, begin, rest = page.partition(first)
    _, end, after = rest.partition(last)
    if not end:
        raise SystemExit(f"The page has no place for the table: put {first} and {last} where it is to be.")
    return f"{before}{begin}\n{table}\n{end}{after}"


def done(file: Path, seed: int, model: str) -> dict[str, Any] | None:
    """A model's report of a seed that came to its end with the same code, weights and host; None if there is none."""
    try:
        report = json.loads(file.read_text(encoding="utf-8"))
        return report if report["inputs"] == digest_of_inputs(seed=seed, model=model, short=False) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def of_model(model: str, seeds: Sequence[int], output: Path, page: Path) -> dict[str, Any]:
    """The worst of all seeds, those without a report of the same code being run; writes it and the model's table."""
    reports = []
    for seed in seeds:
        print(f"Model {model}, seed {seed}", flush=True)
        folder = output / f"{model} {seed}"
        reports.append(done(folder / "report.json", seed, model) or run(folder, seed, model))
    report = worst_of_seeds(reports) | {"model": model}
    output.mkdir(parents=True, exist_ok=True)
    (output / f"{model}.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    seeds_told = ", ".join(map(str, report["seeds"]))
    told = f"The worst of seeds {seeds_told}; {report['steps']} steps.\n\n{markdown_table(report)}"
    page.write_text(with_table(page.read_text(encoding="utf-8"), told, model), encoding="utf-8")
    return report


def main() -> None:
    """Runs each model's demo with each seed, and writes the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=KINDS, nargs="+", default=KINDS, help="the demo models (all)")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS, help="of the trainer (0 1 2)")
    parser.add_argument("--output", type=Path, default=BUILD / "figures", help="where reports and pictures go")
    parser.add_argument("--page", type=Path, default=PAGE, help="the page with the tables")
    arguments = parser.parse_args()
    for model in arguments.model:
        with_table(arguments.page.read_text(encoding="utf-8"), "", model)
    reports = [of_model(one, arguments.seeds, arguments.output, arguments.page) for one in arguments.model]
    hold = [print_table(report) for report in reports]
    if not all(hold):
        raise SystemExit("A figure falls short of what is asked: see the table.")


if __name__ == "__main__":
    sys.exit(run_command(main, "It was interrupted; the same command goes on where it was."))
