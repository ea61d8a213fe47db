"""Teaches a finished prefix where faces are: the command `face-region`."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..prefix import SUFFIX, PrefixRecord, load_prefix, save_prefix
from ..prefix.errors import TrainingError, shown
from ..runs.paths import path_of, require_writable_folder
from ..runs.run_folder import kept_until_written
from ..runs.settings import add_option
from ..trainer.settings import TrainingSettings
from .console import Console
from .model import finding_on, load_denoiser
from .options import add_drawing, add_model
from .show import facts
from .train import RUNS, STAGES, require_output

if TYPE_CHECKING:
    from ..trainer.stages.face_region import Finding

NAME = "face-region"
SUMMARY = "teaches a finished prefix where faces are"
DESCRIPTION = """\
Teaches a prefix that was learned without --face-region where faces are, so that Anonymize Face Region can change faces
and nothing else. Its vectors stay the same to the last bit. The model draws at most 112 pictures and is asked about a
thousand times; no picture is needed."""
EPILOGUE = """\
  python -m trainer face-region people.safetensors --model sd15.safetensors --config stable-diffusion-v1-5 \\
      --identities people.txt --output people-with-region.safetensors

Give the model and the list of people that the prefix was learned with: whom it held out is then known, and how sure
the answers are is tried on them. Nothing is overwritten without --overwrite; with it, the output may be the prefix's
own file, which is replaced whole or not at all. Broken off, the same command goes on with the pictures that it has
drawn."""

KEPT = "What was drawn is kept: the same command goes on."
"""What a person is told who breaks it off."""

MTCNN, DEMO = "mtcnn", "demo finder"
ASKED = ("seed", "batch_size")
"""Settings that can be chosen; the others are those that the prefix was learned with."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("file", type=path_of, help="the prefix")
    data = parser.add_argument_group("data")
    data.add_argument("--identities", type=path_of, metavar="FILE", help="the people to draw (needed)")
    data.add_argument("--general-prompts", type=path_of, metavar="FILE", help="your general prompts, if it had some")
    data.add_argument("--output", type=path_of, metavar="FILE", help=f"the prefix file to write, {SUFFIX} (needed)")
    data.add_argument("--overwrite", action="store_true", help="replace a file of that name")
    data.add_argument(
        "--runs", type=path_of, metavar="FOLDER", help=f"unfinished runs (default: {RUNS}, beside the output)"
    )
    data.add_argument(
        "--finder", choices=(MTCNN, DEMO), default=MTCNN, help="what finds faces in the pictures (%(default)s)"
    )
    add_model(parser)
    add_drawing(parser)
    group = parser.add_argument_group("learning")
    for name in ASKED:
        add_option(group, TrainingSettings, name)


def run(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Draws, learns, writes.

    Raises:
        AnonymizationError: anything in the way, as `with_face_region`, `load_pipeline` and `save_prefix` say.
    """
    prefix = load_prefix(options.file)
    runs = _require(options)
    from ..trainer.data.identities import parse_identities
    from ..trainer.data.list_text import text_of_file
    from ..trainer.data.prompts import general_prompts
    from ..trainer.stages.face_region import OVERLAP
    from ..trainer.stages.finished_prefix import with_face_region

    identities = parse_identities(text_of_file(options.identities))
    given = "" if options.general_prompts is None else text_of_file(options.general_prompts)
    settings = _settings(options, prefix.record)
    denoiser = load_denoiser(options, console, None, settings.drawing_share)
    with (
        kept_until_written(),
        console.progress_report() as report,
        _finding(options, denoiser.device)() as finder,
    ):
        made = with_face_region(
            denoiser,
            prefix,
            identities,
            general_prompts(given, identities),
            finder,
            settings,
            report=lambda stage, done, of: report(STAGES[stage], done, of),
            runs=runs,
        )
        save_prefix(made, options.output, options.overwrite)
    overlap = made.record.scores[OVERLAP]
    return {
        **facts(made),
        "file": shown(options.output),
        "report": (
            f"On pictures that it was not learned from, what it covers and the faces overlap by {overlap:.0%}."
            f"\nWrote {shown(options.output)}."
        ),
    }


def _finding(options: argparse.Namespace, device: Any) -> Finding:
    if options.finder == DEMO:
        from contextlib import nullcontext

        from ..demo.measuring.face_finder import DemoFaceFinder

        return lambda: nullcontext(DemoFaceFinder())
    return finding_on(device)


def _settings(options: argparse.Namespace, record: PrefixRecord) -> TrainingSettings:
    """Those that the prefix was learned with, as far as they are known, and what the options say."""
    names = {field.name for field in dataclasses.fields(TrainingSettings)}
    try:
        settings = TrainingSettings(**{name: value for name, value in record.settings.items() if name in names})
    except (TrainingError, TypeError):  # Of a version whose settings were others.
        settings = TrainingSettings()
    chosen = {name: getattr(options, name) for name in ASKED if getattr(options, name) is not None}
    return dataclasses.replace(settings, **chosen)


def _require(options: argparse.Namespace) -> Path:
    """The folder of unfinished runs; raises before anything long begins."""
    require_output(options, "")
    runs: Path = options.runs or options.output.parent / RUNS
    require_writable_folder(runs, "--runs")
    return runs
