"""Makes an option of each of the trainer's settings."""

from __future__ import annotations

import argparse

from ..engines.automatic import USUAL, UsualDrawing
from ..engines.options import AS_THE_HOST, Computing, Drawing
from ..runs.paths import path_of
from ..runs.settings import add_option, all_described
from ..trainer.settings import TrainingSettings


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Adds an option for each of the trainer's settings. None has a default: see `settings_file`."""
    group = parser.add_argument_group("learning")
    for about in all_described(TrainingSettings):
        add_option(group, TrainingSettings, about.name)


def add_model(parser: argparse.ArgumentParser) -> None:
    """Adds the options that say which model, and where and how it computes."""
    model = parser.add_argument_group("model")
    model.add_argument(
        "--model",
        type=path_of,
        metavar="PATH",
        help="a folder of diffusers, or a single .safetensors file (needed)",
    )
    model.add_argument(
        "--config",
        type=path_of,
        metavar="FOLDER",
        help="for a single file: a folder of diffusers of the same family, for sizes and tokenizers",
    )
    model.add_argument(
        "--hub",
        action="store_true",
        default=None,
        help="for a single file: fetch sizes and tokenizers from the Hugging Face Hub",
    )
    model.add_argument("--device", metavar="NAME", help="cuda, cuda:1, mps, cpu, … (default: the fastest there is)")
    add_option(model, Computing, "precision", besides="Here 'model' is float32")
    add_option(model, Computing, "checkpointing")


def add_size(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Adds the options that say how large pictures are drawn."""
    drawing = parser.add_argument_group("drawing")
    drawing.add_argument("--width", type=int, metavar="N", help="of the pictures, in pixels (default: the model's own)")
    drawing.add_argument("--height", type=int, metavar="N", help="the same")
    return drawing


def add_drawing(parser: argparse.ArgumentParser) -> None:
    """Adds the options that say how pictures are drawn."""
    drawing = add_size(parser)
    add_option(drawing, Drawing, "steps", "--drawing-steps", shown=USUAL)
    add_option(drawing, Drawing, "cfg", "--drawing-cfg", shown=USUAL)


def settings_of(options: argparse.Namespace) -> TrainingSettings:
    """The trainer's settings.

    Raises:
        TrainingError: a value is out of range.
    """
    names = [about.name for about in all_described(TrainingSettings)]
    chosen = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    return TrainingSettings(**chosen)


def drawing_of(options: argparse.Namespace, usual: UsualDrawing, share: float) -> Drawing:
    """How pictures are drawn; sampler and scheduler are the pipeline's own.

    Args:
        share: see `UsualDrawing.drawing`.
    """
    asked = Drawing(options.drawing_steps or 0, options.drawing_cfg or 0.0, sampler="", scheduler="")
    return usual.drawing(asked, share)


def computing_of(options: argparse.Namespace) -> Computing:
    """How the denoiser computes."""
    return Computing(options.precision or AS_THE_HOST.precision, options.checkpointing or AS_THE_HOST.checkpointing)
