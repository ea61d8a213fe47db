"""Scores prefixes: the command `evaluate`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..prefix.errors import MeasurementError
from ..runs.paths import path_of
from .console import Console
from .model import load_denoiser
from .options import add_model, add_size

if TYPE_CHECKING:
    from ..faces.recognizer import Place, Recognizer, Report
    from ..trainer.data.identities import Identity

NAME = "evaluate"
SUMMARY = "scores prefixes: who is still recognized, and what became of everything else"
DESCRIPTION = """\
Draws people by their names, and other things, without and with each prefix, and reads the pictures: how often somebody
is still recognized, how much of the described looks is kept, how far other pictures moved."""
EPILOGUE = """\
  python -m trainer evaluate people.safetensors --model sd15.safetensors --config stable-diffusion-v1-5 \\
      --names others.txt --references photos/ --output results/

Name people whom the prefix was not learned on. Broken off, the same command goes on where it was; a further prefix
costs its own pictures only. Results are JSON, CSV and a page of HTML; --write-scores puts the figures into the prefix
files. The 'demo reader' knows the demo model's people; it comes with the repository."""

KEPT = "What was drawn is kept: the same command goes on."
"""What a person is told who breaks it off."""

FACENET, DEMO = "facenet", "demo reader"
OUTPUT = Path("evaluation")
WEIGHTS = Path.home() / ".cache" / "anonymize-faces" / "facenet"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    from ..evaluation import commands

    commands.add_arguments(parser, OUTPUT)
    add_model(parser)
    add_size(parser)
    add_recognizer(parser)


def run(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Draws, reads, scores, writes.

    Raises:
        AnonymizationError: anything in the way, as `evaluate`, `load_pipeline` and `load_prefix` say.
    """
    from ..evaluation.commands import asked, evaluate_asked, finish
    from ..evaluation.results import to_json

    options.drawing_steps, options.drawing_cfg = options.steps, options.guidance
    what = asked(options, _usual_people(options.recognizer))
    if not what.identities:
        raise MeasurementError("Nobody is named: name the people to measure with --names, one a line.")
    denoiser = load_denoiser(options, console)

    def place(network: Any) -> None:
        network.to(options.device or denoiser.device)

    with console.progress_report() as progress_report:

        def download(received: int, of: int) -> None:
            progress_report("downloading weights", received, of)

        recognizer = recognizer_of(options, place, download)
        evaluation = evaluate_asked(
            denoiser,
            recognizer,
            options,
            what,
            {"steps": options.steps, "cfg": options.guidance, "sampler": "the pipeline's own"},
            options.weights,
            place,
            lambda done, total: progress_report("drawing and reading", done, total),
            download,
        )
    said: list[str] = []
    files = finish(evaluation, options, what, said.append)
    return {**json.loads(to_json(evaluation)), "files": list(map(str, (files.json, files.csv, files.html)))} | {
        "report": "\n".join(said).strip()
    }


def add_recognizer(parser: argparse.ArgumentParser) -> None:
    """Adds the options that say what reads faces; see `recognizer_of`."""
    parser.add_argument("--recognizer", choices=(FACENET, DEMO), default=FACENET, help="what reads faces (%(default)s)")
    parser.add_argument("--weights", type=path_of, default=WEIGHTS, metavar="FOLDER", help="its weights (%(default)s)")


def recognizer_of(options: argparse.Namespace, place: Place, report: Report) -> Recognizer:
    """The recognizer that the options name; its networks are brought to where `place` says."""
    if options.recognizer == DEMO:
        from ..demo.measuring.recognizer import DemoRecognizer

        return DemoRecognizer()
    from ..faces.facenet import load_facenet

    return load_facenet([options.weights], place, report)


def _usual_people(recognizer: str) -> Sequence[Identity]:
    """Whom to measure if nobody is named: of the demo's people those whom nothing is learned on."""
    if recognizer != DEMO:
        return ()
    from ..demo.world.people import identities

    return identities(unseen=(True,))
