"""Defines the node Compare Strengths, which draws the same pictures without and with prefixes, side by side."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import comfy.model_management
import comfy.sample
import comfy.samplers
import comfy.utils
import torch
from comfy_api.v0_0_2 import io, ui
from torch import Tensor

from ..engines.comfy.protected_clip import is_protected, protect
from ..engines.comfy.text_encoders import tokenized_keys
from ..engines.options import AS_USUAL, Drawing
from ..prefix import Prefix, require_family
from ..trainer.data.prompts import lines_of
from .shared.chosen_prefixes import PLACES, chosen_prefixes, contents_of, fault_of_choice, learned_sockets, prefix_lists
from .shared.inputs import InputError, checked, quoted
from .shared.interface import drawing_widgets, size_widgets, widget
from .shared.usual import usual_drawing_here

if TYPE_CHECKING:
    import numpy as np

STRENGTHS = "0, 0.5, 0.75, 1"
PROMPT = "A close-up portrait of Ada Example"
WITHOUT = "without"
"""What the column of strength 0 is called: it is the plain model's, whatever the prefix."""

MOST_PICTURES = 64
"""Pictures in a grid: more are too small to look at, and take long."""

SHOWN = 512
"""Pixels of the longer side of the pictures on the node."""

MOST_SEED = 2**64 - 1


class ComparedColumn(NamedTuple):
    """A way of drawing: its label, and the prefix with its strength; None for neither."""

    label: str
    prefix: Prefix | None
    strength: float


class CompareStrengths(io.ComfyNode):
    """Draws prompts at several strengths, or with several prefixes, and labels what is what."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Sockets, widgets and words of the node."""
        return io.Schema(
            node_id="CompareStrengths",
            display_name="Compare Strengths",
            category="anonymize",
            description="Draws the same prompts from the same seed at several strengths of a prefix, or with several"
            " prefixes: one labelled grid, and a slider between any two of them on the node.",
            is_output_node=True,
            inputs=[
                io.Model.Input("model", tooltip="The model to draw with. It is not changed."),
                io.Clip.Input("clip", tooltip="Its text encoder, straight from the loader. It is not changed."),
                io.Vae.Input("vae", tooltip="Its VAE."),
                io.String.Input(
                    "prompts",
                    multiline=True,
                    default=PROMPT,
                    tooltip="What is drawn, one prompt a line: rows of the grid.",
                ),
                io.String.Input(
                    "strengths",
                    default=STRENGTHS,
                    tooltip="Strengths to compare, from 0 (no protection) to 1 (all of it), with commas between them:"
                    " columns of the grid. With several prefixes '0, 1' is enough.",
                ),
                io.Int.Input(
                    "images_per_prompt",
                    default=1,
                    min=1,
                    max=16,
                    tooltip="Pictures of each prompt: rows of the grid, each from noise of its own.",
                ),
                io.String.Input("negative_prompt", default="", tooltip="The negative prompt of all pictures."),
                *drawing_widgets(),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=MOST_SEED,
                    control_after_generate=False,
                    tooltip="As in KSampler: the same seed draws the same picture in every column.",
                ),
                *size_widgets("Width of the pictures.", "Height of the pictures."),
                *prefix_lists("A prefix to draw with: a file in models/anonymization_prefixes."),
                widget(Drawing, "sampler", "sampler_name", options=comfy.samplers.KSampler.SAMPLERS, optional=True),
                widget(Drawing, "scheduler", options=comfy.samplers.KSampler.SCHEDULERS, optional=True),
                *learned_sockets("A prefix to draw with, from Train or Load Anonymization Prefix."),
            ],
            hidden=[io.Hidden.prompt],
            outputs=[
                io.Image.Output(display_name="grid", tooltip="All pictures with their labels, as one image."),
                io.Image.Output(
                    display_name="first",
                    tooltip="The pictures of the first column: without protection if the strengths begin with 0.",
                ),
                io.Image.Output(
                    display_name="last", tooltip="The pictures of the last column, in the same order as those of first."
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, prefix_1: Any = None) -> bool | str:
        """Refuses a missing file before anything runs, as Evaluate Anonymization does."""
        return fault_of_choice(prefix_1) or True

    @classmethod
    def fingerprint_inputs(cls, **inputs: Any) -> str:
        """Runs the node anew when a file of that name holds something else."""
        return contents_of(inputs)

    @classmethod
    @checked(*(f"prefix_{place}" for place in PLACES))
    def execute(
        cls,
        model: Any,
        clip: Any,
        vae: Any,
        prompts: str,
        strengths: str,
        images_per_prompt: int,
        negative_prompt: str,
        steps: int,
        cfg: float,
        seed: int,
        width: int,
        height: int,
        sampler_name: str = AS_USUAL.sampler,
        scheduler: str = AS_USUAL.scheduler,
        **prefixes: Any,
    ) -> io.NodeOutput:
        """Draws column by column, and shows them."""
        # Loaded here, so that the host's start does not wait for it.
        from ..engines.comfy.denoiser import latent_shape
        from ..evaluation.reporting.grid import labelled_grid
        from ..faces.pictures import pictures_of

        if is_protected(clip):
            raise InputError("This CLIP is protected already: connect the checkpoint's own CLIP.")
        told = lines_of(prompts)
        if not told:
            raise InputError("There is nothing to draw: write a prompt.")
        columns = _columns(dict(chosen_prefixes(prefixes)), parse_strengths(strengths))
        each = images_per_prompt
        if (count := len(told) * each * len(columns)) > MOST_PICTURES:
            raise InputError(
                f"These would be {count} pictures, and a grid has room for {MOST_PICTURES}: take fewer prompts,"
                " strengths, prefixes or images_per_prompt."
            )
        usual = usual_drawing_here(model, cls.hidden)
        size, drawing = usual.size(width, height), usual.drawing(Drawing(steps, cfg, sampler_name, scheduler))
        noise = comfy.sample.prepare_noise(torch.zeros(each, *latent_shape(model, vae, size)), seed)
        bar = comfy.utils.ProgressBar(len(columns) * len(told) * drawing.steps)

        def show(*_: object) -> None:
            comfy.model_management.throw_exception_if_processing_interrupted()
            bar.update(1)

        def drawn(column: ComparedColumn) -> Tensor:
            """The pictures of all prompts `[prompts * each, height, width, 3]`, in 0 to 1."""
            encoder = clip
            if column.prefix is not None:
                encoder = protect(clip, column.prefix, column.strength)
                require_family(column.prefix.record, tokenized_keys(clip))
            negative = _encoded(encoder, negative_prompt)
            pictures = [
                _draw(model, vae, noise, drawing, seed, _encoded(encoder, prompt), negative, show) for prompt in told
            ]
            return torch.cat(pictures)

        batches = [drawn(column) for column in columns]
        by_column = [pictures_of(batch, column.label) for batch, column in zip(batches, columns, strict=True)]
        labels = [column.label for column in columns]
        rows = [prompt for prompt in told for _ in range(each)]
        cells: list[list[np.ndarray]] = [list(row) for row in zip(*by_column, strict=True)]
        grid = labelled_grid(labels, rows, cells)
        # Not as "images", which the host would show on the node once more, below the slider.
        small = torch.cat([_small(batch) for batch in batches])
        shown = {"compared": ui.PreviewImage(small, cls=cls).as_dict()["images"], "labels": labels}
        return io.NodeOutput(grid, batches[0], batches[-1], ui=shown)


def parse_strengths(text: str) -> tuple[float, ...]:
    """The strengths of a list, each once, in its order.

    Raises:
        InputError: there is none, or something that is no number from 0 to 1.
    """
    found: list[float] = []
    for word in re.split(r"[\s,;]+", text.strip()):
        try:
            strength = float(word)
        except ValueError:
            strength = -1.0
        if not 0 <= strength <= 1:
            raise InputError(
                f"{quoted(word) if word else 'An empty list'} is no strength: write numbers from 0 to 1, such as"
                f" '{STRENGTHS}'."
            )
        found.append(strength)
    return tuple(dict.fromkeys(found))


def _columns(prefixes: Mapping[str, Prefix], strengths: tuple[float, ...]) -> list[ComparedColumn]:
    """The columns of a grid. Without a prefix at all there is nothing to compare.

    Raises:
        InputError: there is no prefix.
    """
    if not prefixes:
        raise InputError("There is no prefix to compare: choose one in prefix_1, or connect one.")
    return list(_each_column(prefixes, strengths))


def _each_column(prefixes: Mapping[str, Prefix], strengths: tuple[float, ...]) -> Iterator[ComparedColumn]:
    several = len(prefixes) > 1
    for number, (name, prefix) in enumerate(prefixes.items()):
        for strength in strengths:
            if strength == 0:
                if number == 0:
                    yield ComparedColumn(WITHOUT, None, 0.0)
                continue
            told = f"strength {strength:g}"
            if several:
                told = (
                    name
                    if len([some for some in strengths if some]) == 1 and strength == 1
                    else f"{name}, {strength:g}"
                )
            yield ComparedColumn(told, prefix, strength)


def _encoded(clip: Any, text: str) -> Any:
    """As CLIP Text Encode does."""
    return clip.encode_from_tokens_scheduled(clip.tokenize(text))


def _draw(
    model: Any,
    vae: Any,
    noise: Tensor,
    drawing: Drawing,
    seed: int,
    positive: Any,
    negative: Any,
    show: Any,
) -> Tensor:
    """As KSampler and VAE Decode do: pictures `[B, height, width, 3]` in 0 to 1."""
    latents = comfy.sample.sample(
        model,
        noise,
        drawing.steps,
        drawing.cfg,
        drawing.sampler,
        drawing.scheduler,
        positive,
        negative,
        torch.zeros_like(noise),
        callback=show,
        disable_pbar=True,
        seed=seed,
    )
    pictures = vae.decode(latents)
    return pictures.reshape(-1, *pictures.shape[-3:]).float().cpu().clamp(0, 1)


def _small(pictures: Tensor) -> Tensor:
    """Pictures `[B, height, width, 3]` as large as the node can show them."""
    scale = SHOWN / max(pictures.shape[1:3])
    if scale >= 1:
        return pictures
    size = [max(1, round(side * scale)) for side in pictures.shape[1:3]]
    return torch.nn.functional.interpolate(pictures.movedim(-1, 1), size, mode="area").movedim(1, -1)


NODES = [CompareStrengths]
