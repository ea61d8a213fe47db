"""Makes an option of each of the trainer's settings."""

from __future__ import annotations

import argparse
import dataclasses

from ..engines.options import AS_THE_HOST, AS_USUAL, CHECKPOINTING, PRECISIONS, Computing, Drawing
from ..trainer.paths import path_of
from ..trainer.settings import TrainingSettings

HELP = {
    "vectors": "length of the prefix; each vector takes the place of one token of a prompt",
    "steps": "optimizer steps; more take longer and remove more",
    "batch_size": "pictures a step, over all processes; half of them name people",
    "learning_rate": "how far the prefix moves a step at most; lower it if the losses jump",
    "seed": "the same seed and settings give the same prefix",
    "init": "words that the prefix starts from; none: it starts at random",
    "portraits_per_identity": "portraits that the model draws of each person to learn from",
    "noisings_per_picture": "noises in which each picture is seen; what the model makes of each is computed once",
    "warmup": "share of the steps over which the learning rate rises",
    "held_out": "share of the people, and of the general prompts, that the prefix is examined on instead",
    "general_weight": "weight of prompts that name nobody in the loss",
    "vary_names": "let some prompts name people in other ways, so that the prefix is hard to get around",
    "text_steps": "steps that the prefix learns from the text encoder alone first; SD1, SD2 and SDXL only",
    "overshoot": "how far past 'no identity' to aim for the people learned on, 0 to 1",
    "snapshot_every": "steps after which the run is saved",
}
"""What each of the trainer's settings is for, in a line."""


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Adds an option for each of the trainer's settings. None has a default: see `settings_file`."""
    group = parser.add_argument_group("learning")
    for field in dataclasses.fields(TrainingSettings):
        flag = f"--{field.name.replace('_', '-')}"
        if isinstance(field.default, bool):
            group.add_argument(flag, action="store_true", default=None, help=HELP[field.name])
            continue
        kind = type(field.default)
        shown = repr(field.default) if kind is str else f"{field.default:g}"
        metavar = {int: "N", float: "X", str: "WORDS"}[kind]
        group.add_argument(flag, type=kind, metavar=metavar, help=f"{HELP[field.name]} (default: {shown})")


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
    model.add_argument(
        "--precision",
        choices=list(PRECISIONS),
        help=f"number format of the weights: model is float32 (default: {AS_THE_HOST.precision})",
    )
    model.add_argument(
        "--checkpointing",
        choices=CHECKPOINTING,
        help=f"compute activations twice instead of keeping them (default: {AS_THE_HOST.checkpointing})",
    )


def add_size(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Adds the options that say how large pictures are drawn."""
    drawing = parser.add_argument_group("drawing")
    drawing.add_argument("--width", type=int, metavar="N", help="of the pictures, in pixels (default: the model's own)")
    drawing.add_argument("--height", type=int, metavar="N", help="the same")
    return drawing


def add_drawing(parser: argparse.ArgumentParser) -> None:
    """Adds the options that say how pictures are drawn."""
    drawing = add_size(parser)
    drawing.add_argument(
        "--drawing-steps",
        type=int,
        metavar="N",
        help=f"sampler steps for each picture (default: {AS_USUAL.steps})",
    )
    drawing.add_argument(
        "--drawing-cfg",
        type=float,
        metavar="X",
        help=f"guidance for the pictures, 1 for Flux (default: {AS_USUAL.cfg:g})",
    )


def settings_of(options: argparse.Namespace) -> TrainingSettings:
    """The trainer's settings.

    Raises:
        TrainingError: a value is out of range.
    """
    names = [field.name for field in dataclasses.fields(TrainingSettings)]
    chosen = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    return TrainingSettings(**chosen)


def drawing_of(options: argparse.Namespace) -> Drawing:
    """How pictures are drawn; sampler and scheduler are the pipeline's own."""
    steps = AS_USUAL.steps if options.drawing_steps is None else options.drawing_steps
    cfg = AS_USUAL.cfg if options.drawing_cfg is None else options.drawing_cfg
    return Drawing(steps, cfg, sampler="", scheduler="")


def computing_of(options: argparse.Namespace) -> Computing:
    """How the denoiser computes."""
    return Computing(options.precision or AS_THE_HOST.precision, options.checkpointing or AS_THE_HOST.checkpointing)
