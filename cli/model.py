"""Loads the model that the options name, as a denoiser."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import PureWindowsPath
from typing import TYPE_CHECKING, Any

from ..engines.automatic import named_for_few_steps, usual_drawing
from ..engines.options import PRECISIONS
from ..prefix.errors import TrainingError, first_line
from .console import Console
from .options import computing_of, drawing_of

if TYPE_CHECKING:
    from ..engines.diffusers.denoiser import DiffusersDenoiser
    from ..faces.recognizer import Finder


def load_denoiser(
    options: argparse.Namespace, console: Console, device: Any = None, drawing_share: float = 1.0
) -> DiffusersDenoiser:
    """The model that the options name, on its device.

    Args:
        drawing_share: of the sampler's usual steps, for each picture.
        device: where it is to be unless the options say; None for the fastest there is.

    Raises:
        TrainingError: no model was named, or it cannot be loaded.
        PrefixMismatchError: it is of an unknown family.
    """
    import torch

    from ..engines.diffusers.denoiser import DiffusersDenoiser
    from ..engines.diffusers.loading import load_pipeline
    from ..engines.diffusers.pipeline_families import drawing_names

    if options.model is None:
        raise TrainingError("No model was named: name a folder of diffusers or a .safetensors file with --model.")
    computing = computing_of(options)
    console.say(f"loading {options.model}")
    dtype = PRECISIONS[computing.precision] or torch.float32
    pipeline = load_pipeline(options.model, options.config, dtype, bool(options.hub))
    device = options.device or device or _fastest()
    try:
        pipeline.to(device)
    except (RuntimeError, AssertionError) as error:
        raise TrainingError(
            f"The model cannot be moved to '{device}' ({first_line(error)}): name another device."
        ) from error
    usual = _usual_side(pipeline)
    size = (options.width or usual, options.height or usual)
    named = named_for_few_steps(usual_drawing(drawing_names(pipeline)), [PureWindowsPath(str(options.model)).name])
    drawing = drawing_of(options, named, drawing_share)
    return DiffusersDenoiser(pipeline, size, drawing, computing)


def finding_on(device: Any) -> Callable[[], AbstractContextManager[Finder]]:
    """Gives what finds faces in pictures, on a device."""

    def place(network: Any) -> None:
        network.to(device)

    @contextmanager
    def found() -> Iterator[Finder]:
        from ..faces.facenet import load_mtcnn

        yield load_mtcnn(place)

    return found


def _fastest() -> str:
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _usual_side(pipeline: Any) -> int:
    """Width and height that the pipeline draws if nobody asks for others."""
    network = pipeline.unet if hasattr(pipeline, "unet") else pipeline.transformer
    cells = getattr(pipeline, "default_sample_size", None) or network.config.get("sample_size") or 64
    return int(cells) * pipeline.vae_scale_factor
