"""Learns a prefix: the command `train`."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..prefix import SUFFIX, PrefixFileExistsError, PrefixRecord, PrefixValueError, save_prefix
from ..prefix.errors import TrainingError, shown
from ..runs.amounts import duration
from ..runs.paths import path_of, require_writable_file, require_writable_folder
from ..runs.run_folder import kept_until_written
from .console import Console, ProgressReport
from .model import finding_on, load_denoiser
from .options import add_drawing, add_model, add_settings, settings_of
from .settings_file import with_file
from .show import facts

if TYPE_CHECKING:
    from ..trainer.plan import Plan
    from ..trainer.progress import Learned, Progress
    from ..trainer.reporting.telemetry import Telemetry

NAME = "train"
SUMMARY = "learns a prefix on a model"
DESCRIPTION = """\
Learns a prefix. The model draws people and other things once, without a prefix, and what it makes of each picture when
told the looks instead of the name is kept as the goal; then the vectors of the prefix learn to reach it. No pictures
are needed, and no weight of the model changes."""
EPILOGUE = """\
the people: one a line, 'Name: description'; without a description somebody is 'a person'. A table (CSV or TSV) whose
first line names the columns 'name' and 'description' does as well. With 8 people or more, some are held out, and the
prefix is examined on them. General prompts of yours, one a line, must stay as they are, beside a built-in list.

how much is drawn, learned and validated follows from --preset; any option that is given goes before.

a settings file holds any of these options, as TOML; the command line goes before:
  model = "sd15.safetensors"
  config = "stable-diffusion-v1-5"
  identities = "people.txt"
  output = "people.safetensors"
  [learning]
  preset = "thorough"
  batch_size = 16

  python -m trainer train --settings people.toml --seed 1

A run that was interrupted or killed goes on from its last snapshot when the same command is given again, unless the
model or a setting has changed. Several GPUs: accelerate launch --num_processes 8 -m trainer train …"""

RUNS = ".anonymize-faces-runs"
"""Folder of unfinished runs, beside the output."""

KEPT = "What the run had learned is kept: the same command goes on."
"""What a person is told who breaks it off."""

STAGES = {
    "drawing": "drawing what to learn from",
    "text_warm_up": "learning from the text encoder",
    "encoding_prompts": "reading prompts",
    "learning": "learning",
    "face_region": "learning where faces are",
}
"""What a person is told of a run's stages."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments. None has a default: see `settings_file`."""
    data = parser.add_argument_group("data")
    data.add_argument("--settings", type=path_of, metavar="FILE", help="a TOML file with any of these options")
    data.add_argument("--identities", type=path_of, metavar="FILE", help="the people to learn from (needed)")
    data.add_argument("--general-prompts", type=path_of, metavar="FILE", help="prompts that are to stay as they are")
    data.add_argument("--output", type=path_of, metavar="FILE", help=f"the prefix file to write, {SUFFIX} (needed)")
    data.add_argument("--overwrite", action="store_true", default=None, help="replace a file of that name")
    data.add_argument("--name", help="what the prefix is called in its record (default: the file's name)")
    data.add_argument("--notes", help="what else its record is to tell")
    data.add_argument("--plot", type=path_of, metavar="FILE", help="a picture of the losses to write, .png")
    data.add_argument(
        "--runs", type=path_of, metavar="FOLDER", help=f"unfinished runs (default: {RUNS}, beside the output)"
    )
    data.add_argument(
        "--pictures",
        type=path_of,
        metavar="FOLDER",
        help="keeps pictures of general prompts for later runs",
    )
    data.add_argument(
        "--plan", action="store_true", default=None, help="tell what learning would take, after one dry step; then end"
    )
    add_model(parser)
    add_drawing(parser)
    add_settings(parser)
    parser.set_defaults(parser=parser)


def run(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Loads, learns, writes.

    Raises:
        AnonymizationError: anything in the way, as `learn_prefix`, `load_pipeline` and `save_prefix` say.
    """
    if options.settings is not None:
        options = with_file(options.parser, options, options.settings)
    _require(options)
    from ..trainer.data.identities import parse_identities
    from ..trainer.data.list_text import text_of_file
    from ..trainer.data.prompts import general_prompts
    from ..trainer.parallel.accelerate_team import team_of_this_process
    from ..trainer.progress import Callbacks
    from ..trainer.reporting.report import describe
    from ..trainer.reporting.telemetry import Run, Telemetry
    from ..trainer.training import PrefixTraining, learn_prefix

    identities = parse_identities(text_of_file(options.identities))
    given = "" if options.general_prompts is None else text_of_file(options.general_prompts)
    prompts = general_prompts(given, identities)
    settings = settings_of(options)
    team = team_of_this_process()
    console = console.of_member(team.rank)
    denoiser = load_denoiser(options, console, getattr(team, "device", None), settings.drawing_share)
    if options.plan:
        plan = PrefixTraining(
            denoiser,
            identities,
            prompts,
            settings,
            runs=_runs(options),
            pictures=options.pictures,
            team=team,
            finding=finding_on(denoiser.device),
        ).plan()
        return {"plan": plan.table, "report": plan.words}
    telemetry = Telemetry()
    telemetry.begin(Run())

    def tell(plan: Plan) -> None:
        console.say(plan.words)
        telemetry.plan(plan)

    with kept_until_written(), console.progress_report() as progress_report:
        learned = learn_prefix(
            denoiser,
            identities,
            prompts,
            settings,
            Callbacks(report=lambda progress: show(progress_report, progress, telemetry), plan=tell),
            runs=_runs(options),
            pictures=options.pictures,
            team=team,
            finding=finding_on(denoiser.device),
        )
        record = dataclasses.replace(learned.prefix.record, **_words(options))
        prefix, path = dataclasses.replace(learned.prefix, record=record), options.output
        if team.rank == 0:
            save_prefix(prefix, path, bool(options.overwrite))
    if team.rank == 0 and options.plot is not None:
        _plot(learned, options.plot)
    return {
        **facts(prefix),
        "file": shown(path),
        "stopped": learned.stopped,
        "events": list(learned.notes),
        "drawing_seconds": round(learned.drawing_seconds, 3),
        "learning_seconds": round(learned.learning_seconds, 3),
        "report": f"{describe(learned)}\nWrote {shown(path)}.",
    }


def show(progress_report: ProgressReport, progress: Progress, telemetry: Telemetry) -> None:
    """How far a run is, and how long all of what is left of it takes."""
    telemetry.note(progress)
    stage, losses, left = progress.stage, progress.losses, telemetry.seconds_left
    text = STAGES[stage.name]
    if losses is not None:
        text += f", losses {losses.identities:.4f} and {losses.general:.4f}"
    if left is not None:
        text += f", {duration(left)} left"
    progress_report(text, stage.done, stage.of)


def require_output(options: argparse.Namespace, missing: str) -> None:
    """Raises where model, people or the place of a prefix file are missing, or that cannot be written.

    Args:
        missing: where a missing option is to be given.
    """
    for name in ("model", "identities", "output"):
        if getattr(options, name) is None:
            raise TrainingError(f"--{name} is missing: give it{missing}.")
    if options.output.suffix != SUFFIX:
        raise TrainingError(f"'{shown(options.output)}' is no name for a prefix file: let it end in {SUFFIX}.")
    require_writable_file(options.output, "--output")
    if options.output.exists() and not options.overwrite:
        raise PrefixFileExistsError(
            f"There is a file '{shown(options.output)}' already: name another, or give --overwrite."
        )


def _require(options: argparse.Namespace) -> None:
    """Raises before anything long begins."""
    require_output(options, " on the command line or in the settings file")
    require_writable_folder(_runs(options), "--runs")
    if options.pictures is not None:
        require_writable_folder(options.pictures, "--pictures")
    if options.plot is not None:
        _require_plot(options.plot)
    try:
        PrefixRecord(family="", fingerprint="", **_words(options))
    except PrefixValueError as error:
        raise TrainingError(f"--name or --notes cannot be kept ({str(error).rstrip('.')}): give another.") from error


def _words(options: argparse.Namespace) -> dict[str, str]:
    """What the record is to say beside what was learned."""
    return {"name": options.name or shown(options.output.stem), "notes": options.notes or ""}


def _runs(options: argparse.Namespace) -> Path:
    return options.runs or options.output.parent / RUNS


def _require_plot(path: Path) -> None:
    """Raises `TrainingError` unless a picture can be written there."""
    from PIL import Image

    Image.init()
    if Image.EXTENSION.get(path.suffix.lower()) not in Image.SAVE:
        raise TrainingError(f"--plot '{shown(path)}' is no name for a picture: let it end in .png.")
    require_writable_file(path, "--plot")


def _plot(learned: Learned, path: Path) -> None:
    from PIL import Image

    from ..trainer.reporting.plot import plot_losses

    pixels = (plot_losses(learned.history)[0] * 255).round().byte().numpy()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    except (OSError, ValueError) as error:
        raise TrainingError(f"The plot cannot be written to '{shown(path)}' ({error}): name a .png file.") from error
