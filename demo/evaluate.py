"""`python -m anonymize_faces.demo.evaluate PREFIX …`: runs an evaluation on the demo model, in this process.

The protocol is docs/METHODS.md 1.6. Prints the table and writes JSON, CSV and a page. Broken off, the same command goes
on where it was.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path

from ..engines.options import Drawing
from ..evaluation.commands import add_arguments, asked, evaluate_asked, finish, show_progress
from ..prefix import AnonymizationError
from ..tools.command import run_command
from ..tools.layout import BUILD
from .generate import GUIDANCE, SAMPLER, SCHEDULER, STEPS
from .host import enter_host
from .loader import load_demo_model
from .measuring.recognizer import DemoRecognizer
from .world.people import THING_PROMPTS, identities
from .world.renderer import SIZE

FOLDER = BUILD / "demo" / "evaluation"
PEOPLE = {"unseen": (True,), "given": (False,), "all": (True, False)}
"""Groups of the cast: whom a prefix is never learned on, whom it is given, and both."""


def run(arguments: argparse.Namespace) -> None:
    """Evaluates what the command line asks for.

    Raises:
        AnonymizationError: it cannot be measured.
    """
    enter_host()
    from ..engines.comfy.denoiser import ComfyDenoiser

    model, clip, vae = load_demo_model()
    drawing = Drawing(arguments.steps, arguments.guidance, SAMPLER, SCHEDULER)
    denoiser = ComfyDenoiser(model, clip, vae, (SIZE, SIZE), drawing)
    what = asked(arguments, identities(PEOPLE[arguments.people]), THING_PROMPTS)
    evaluation = evaluate_asked(
        denoiser,
        DemoRecognizer(),
        arguments,
        what,
        dataclasses.asdict(drawing),
        Path(arguments.output),
        lambda network: None,
        show_progress("drawing and reading"),
        show_progress("downloading weights"),
    )
    finish(evaluation, arguments, what)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(description=__doc__)
    add_arguments(made, FOLDER, STEPS, GUIDANCE)
    made.add_argument("--people", choices=PEOPLE, default="unseen", help="which of the demo's people (%(default)s)")
    made.set_defaults(batch_size=16)
    return made


def main() -> None:
    """Runs the evaluation; an error is a sentence."""
    try:
        run(parser().parse_args())
    except AnonymizationError as error:
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    sys.exit(run_command(main))
