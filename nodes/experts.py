"""Defines the nodes of experts: smaller models for each kind of prompt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import comfy.model_management
import comfy.sample
import folder_paths
import torch
from comfy_api.v0_0_2 import io
from torch import Tensor

from ..engines.options import Drawing
from ..experts.files import FOLDER
from ..experts.settings import ExpertsSettings
from ..prefix import SUFFIX, PrefixFileExistsError, PrefixNameError, file_path, path_inside
from ..prefix.errors import ExpertsError
from .server.current_run import followed_finetuning
from .shared.folder import work_folder
from .shared.inputs import checked
from .shared.interface import (
    ExpertsSocket,
    advanced,
    drawing_widgets,
    seed_widget,
    shown_progress,
    size_widgets,
    tell,
    widget,
)
from .shared.usual import usual_drawing_here

if TYPE_CHECKING:
    from ..experts.value import Experts

NONE_YET = "(no experts yet)"
"""What the list of files shows while there is nothing to choose from."""

OF_THE_EXAMPLE = "demo experts"
"""What the example workflow saves."""


class LearnExperts(io.ComfyNode):
    """Learns smaller models of a model, each for a kind of prompt."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Sockets, widgets and words of the node."""
        return io.Schema(
            node_id="LearnExperts",
            display_name="Learn Experts",
            category="anonymize",
            description="Learns faster versions of a model, each for a kind of prompt: what these prompts hardly need"
            " is left out, whole blocks or parts of layers, and a small LoRA makes up for it. Needs no pictures: the"
            " model draws what it is learned on. The connected model is not changed.",
            is_output_node=True,
            inputs=[
                io.Model.Input("model", tooltip="The model to learn experts of. It is not changed."),
                io.Clip.Input("clip", tooltip="Its text encoder, straight from the loader."),
                io.Vae.Input("vae", tooltip="Its VAE."),
                io.String.Input(
                    "prompts",
                    multiline=True,
                    default="",
                    placeholder="prompts such as you draw, one a line (empty: a built-in list)",
                    tooltip="Prompts such as you draw, one a line, of every kind. Empty: a built-in list.",
                ),
                widget(ExpertsSettings, "experts"),
                widget(ExpertsSettings, "keep"),
                widget(ExpertsSettings, "pictures"),
                widget(ExpertsSettings, "steps"),
                widget(ExpertsSettings, "tuning_steps"),
                widget(ExpertsSettings, "batch_size"),
                seed_widget(ExpertsSettings),
                *map(advanced, size_widgets("Width that is learned at.", "Height that is learned at.")),
                widget(ExpertsSettings, "rank", optional=True),
                widget(ExpertsSettings, "learning_rate", optional=True),
                widget(ExpertsSettings, "whole_share", optional=True),
                widget(ExpertsSettings, "leave_out", optional=True),
            ],
            hidden=[io.Hidden.extra_pnginfo, io.Hidden.prompt],
            outputs=[
                ExpertsSocket.Output(display_name="experts", tooltip="For Route Prompt and Save Experts."),
                io.String.Output(
                    display_name="report", tooltip="What each expert leaves out, and which prompts it has."
                ),
                io.Image.Output(
                    display_name="plot", tooltip="The blocks, or how much of each layer, that each expert computes."
                ),
            ],
        )

    @classmethod
    @checked()
    def execute(
        cls, model: Any, clip: Any, vae: Any, prompts: str, width: int, height: int, **settings: Any
    ) -> io.NodeOutput:
        """Draws, learns, and tells."""
        # Loaded here, so that the host's start does not wait for it.
        from ..engines.comfy.denoiser import ComfyDenoiser
        from ..engines.comfy.expert_parts import prunable, require_whole
        from ..engines.comfy.tuning import lora_of
        from ..experts.learning import ExpertsCallbacks, learned_by
        from ..experts.report import described, drawn
        from ..runs.run_folder import kept_once_done
        from ..trainer.data.prompts import GENERAL_PROMPTS, NEGATIVES, lines_of

        require_whole(model)
        chosen = ExpertsSettings(**settings)
        usual = usual_drawing_here(model, cls.hidden)
        denoiser = ComfyDenoiser(model, clip, vae, usual.size(width, height), usual.drawing(Drawing(0, 0.0)))
        listed = lines_of(prompts) or [prompt for prompt in GENERAL_PROMPTS if prompt not in NEGATIVES]
        show, check = shown_progress(), comfy.model_management.throw_exception_if_processing_interrupted
        workflow = (cls.hidden.extra_pnginfo or {}).get("workflow")
        made, drawn_first = 0, max(chosen.pictures, chosen.experts)
        notes: list[str] = []
        with (
            followed_finetuning(workflow, lambda done, of: None, check, can_stop=False) as followed,
            kept_once_done(),
        ):

            def report(done: int, of: int) -> None:
                nonlocal made
                show(done, of)
                made = max(done - drawn_first, 0)
                if not made:
                    followed.drawing(done, drawn_first)

            learning = followed.callbacks
            callbacks = ExpertsCallbacks(report, check, learning.report, learning.plan, notes.append)
            experts = learned_by(prunable(denoiser, model), listed, chosen, lora_of, callbacks, work_folder("experts"))
            followed.end(made, notes=notes)
        report = "\n".join([described(experts), *notes])
        return io.NodeOutput(experts, report, drawn(experts), ui=tell(report))


class LoadExperts(io.ComfyNode):
    """Reads a file of experts."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Sockets, widgets and words of the node."""
        return io.Schema(
            node_id="LoadExperts",
            display_name="Load Experts",
            category="anonymize",
            description=f"Loads experts from models/{FOLDER}. They fit the model that they were learned on.",
            inputs=[
                io.Combo.Input(
                    "file",
                    options=_choices(),
                    tooltip=f"A file in models/{FOLDER}; press R to see new ones.",
                )
            ],
            outputs=[ExpertsSocket.Output(display_name="experts", tooltip="For Route Prompt and Measure Experts.")],
        )

    @classmethod
    def validate_inputs(cls, file: Any = None) -> bool | str:
        """Refuses a missing file before anything runs; a name that comes from another node is only known later."""
        try:
            return file is None or bool(_found(file))
        except (ExpertsError, PrefixNameError) as error:
            return str(error)

    @classmethod
    def fingerprint_inputs(cls, file: Any = None) -> str:
        """Runs the node anew when the file of that name was written anew."""
        try:
            status = _found(file).stat()
        except (ExpertsError, PrefixNameError, OSError):
            return ""
        return f"{status.st_mtime_ns} {status.st_size}"

    @classmethod
    @checked("file")
    def execute(cls, file: str) -> io.NodeOutput:
        """Reads and checks it."""
        from ..experts.files import load_experts

        return io.NodeOutput(load_experts(_found(file)))


class SaveExperts(io.ComfyNode):
    """Writes a file of experts and shows where."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Sockets, widgets and words of the node."""
        return io.Schema(
            node_id="SaveExperts",
            display_name="Save Experts",
            category="anonymize",
            description=f"Saves experts into models/{FOLDER}. Nothing is ever overwritten: others of the same name get"
            " a number.",
            is_output_node=True,
            inputs=[
                ExpertsSocket.Input("experts", tooltip="The experts to save."),
                io.String.Input("name", default="experts", tooltip="Name of the file. Sub folders are given with '/'."),
            ],
            outputs=[],
        )

    @classmethod
    def validate_inputs(cls, name: Any = None) -> bool | str:
        """Refuses a name that no file can have before anything runs; one that comes by a wire is only known later."""
        try:
            return name is None or bool(file_path(str(name)))
        except PrefixNameError as error:
            return str(error)

    @classmethod
    @checked()
    def execute(cls, experts: Experts, name: str) -> io.NodeOutput:
        """Saves under the name, or with the first number that is free."""
        from ..experts.files import save_experts

        wanted = _folders()[0] / file_path(name)
        for number in count(1):
            path = wanted if number == 1 else wanted.with_stem(f"{wanted.stem}_{number}")
            try:
                return io.NodeOutput(ui=tell(str(save_experts(experts, path))))
            except PrefixFileExistsError:
                continue
        raise AssertionError


class RoutePrompt(io.ComfyNode):
    """Has a prompt drawn by the expert for it."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Sockets, widgets and words of the node."""
        return io.Schema(
            node_id="RoutePrompt",
            display_name="Route Prompt",
            category="anonymize",
            description="Chooses the expert for a prompt, and hands on the model as that expert computes it, for"
            " KSampler. Positive and negative prompts run through the same one; of several prompts the largest expert"
            " that they ask for. LoRAs work as on the model itself.",
            inputs=[
                io.Model.Input("model", tooltip="The model that the experts were learned on. It is not changed."),
                ExpertsSocket.Input("experts", tooltip="From Learn Experts or Load Experts."),
                io.Conditioning.Input("positive", tooltip="The positive prompt, as KSampler gets it."),
                advanced(
                    io.Int.Input(
                        "expert",
                        default=0,
                        min=0,
                        max=32,
                        tooltip="Which expert draws, from 1. 0: the one that the prompt is sent to.",
                    )
                ),
            ],
            outputs=[
                io.Model.Output(display_name="model", tooltip="The model as the expert computes it."),
                io.String.Output(display_name="expert", tooltip="Which expert it is, and what it saves."),
            ],
        )

    @classmethod
    @checked()
    def execute(cls, model: Any, experts: Experts, positive: Any, expert: int = 0) -> io.NodeOutput:
        """Chooses, and makes the model."""
        number = _expert_for(experts, model, positive, expert)
        told = f"expert {number + 1} of {len(experts)}: {experts.share(number):.0%} of the model's compute"
        return io.NodeOutput(_as_expert(experts, model, number), told)


class MeasureExperts(io.ComfyNode):
    """Measures what an expert saves on this machine, beside what costs nothing to learn."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Sockets, widgets and words of the node."""
        return io.Schema(
            node_id="MeasureExperts",
            display_name="Measure Experts",
            category="anonymize",
            description="Draws with the model, with the prompt's expert, with ComfyUI's EasyCache and with fewer steps"
            " at equal time, and tells the time that each takes on this machine and how far its pictures are from the"
            " model's.",
            is_output_node=True,
            inputs=[
                io.Model.Input("model", tooltip="The model that the experts were learned on. It is not changed."),
                ExpertsSocket.Input("experts", tooltip="From Learn Experts or Load Experts."),
                io.Conditioning.Input("positive", tooltip="The positive prompt."),
                io.Conditioning.Input("negative", tooltip="The negative prompt."),
                io.Latent.Input("latent_image", tooltip="The size and number of pictures to draw at once."),
                *drawing_widgets(steps="Steps of the sampler."),
                io.Int.Input("turns", default=3, min=1, max=100, tooltip="How often each is timed; the median counts."),
                seed_widget(ExpertsSettings, tooltip="Of the noise."),
            ],
            hidden=[io.Hidden.prompt],
            outputs=[io.String.Output(display_name="report", tooltip="The table.")],
        )

    @classmethod
    @checked()
    def execute(
        cls,
        model: Any,
        experts: Experts,
        positive: Any,
        negative: Any,
        latent_image: dict[str, Any],
        steps: int,
        cfg: float,
        turns: int,
        seed: int,
    ) -> io.NodeOutput:
        """Draws by all ways in turns."""
        from ..engines.comfy.expert_parts import easy_cached
        from ..experts.measuring import DrawingWay, equal_steps, measured, table

        number = _expert_for(experts, model, positive, 0)
        drawing = usual_drawing_here(model, cls.hidden).drawing(Drawing(steps, cfg))
        latents = comfy.sample.fix_empty_latent_channels(model, latent_image["samples"])
        show, check = shown_progress(), comfy.model_management.throw_exception_if_processing_interrupted

        def draw(drawn_with: Any, count: int = drawing.steps, seed: int = seed) -> Callable[[], Tensor]:
            noise = comfy.sample.prepare_noise(latents, seed)
            return lambda: comfy.sample.sample(
                drawn_with, noise, count, drawing.cfg, drawing.sampler, drawing.scheduler, positive, negative, latents,
                disable_pbar=True, seed=seed,
            )  # fmt: skip

        ways = [
            DrawingWay("the model", 1.0, draw(model)),
            DrawingWay(f"expert {number + 1}", experts.share(number), draw(_as_expert(experts, model, number))),
        ]
        cached = easy_cached(model)
        if cached is not None:
            ways.append(DrawingWay("EasyCache", None, draw(cached)))
        other = draw(model, seed=(seed + 1) % 2**64)
        show(0, 2)
        rows = measured(ways, other, turns, check)
        show(1, 2)
        fewer = equal_steps(drawing.steps, rows[1].ratio)
        less = [ways[0], DrawingWay(f"the model, {fewer} steps", fewer / drawing.steps, draw(model, fewer))]
        rows += measured(less, other, turns, check)[1:]
        show(2, 2)
        batch = len(latents)
        said = [
            f"{drawing.steps} steps, {batch} picture{'s' if batch > 1 else ''} at once, on this machine."
            " Distance: 0 as the model draws, 1 as far as another noise.",
            table(rows),
        ]
        if rows[1].ratio > 0.95:
            said.append("The expert saves no time here: draw with the model itself.")
        report = "\n".join(said)
        return io.NodeOutput(report, ui=tell(report))


def _expert_for(experts: Experts, model: Any, positive: Any, asked: int) -> int:
    """The number, from 0, of the expert that was asked for, or that a conditioning is sent to.

    Raises:
        ExpertsError: the experts are another model's, there is no such expert, or the conditioning is empty.
    """
    from ..engines.comfy.expert_parts import denoiser_fingerprint
    from ..engines.pruning.parts import COMFYUI
    from ..experts.router import embedding_of

    experts.require_model(denoiser_fingerprint(model), COMFYUI)
    if asked > len(experts):
        raise ExpertsError(f"There is no expert {asked}: there are {len(experts)}; 0 has the prompt choose.")
    if asked:
        return asked - 1
    read = [embedding_of(states) for entry in positive for states in entry[0].split(1)]
    if not read:
        raise ExpertsError("The conditioning is empty: connect the positive prompt of CLIP Text Encode.")
    return experts.chosen(torch.stack(read))


def _as_expert(experts: Experts, model: Any, number: int) -> Any:
    from ..engines.comfy.expert_parts import expert_model

    return expert_model(model, experts.left_out(number), experts.deltas[number], experts.record.whole_until)


def _folders() -> list[Path]:
    return [Path(folder) for folder in folder_paths.get_folder_paths(FOLDER)]


def _choices() -> Sequence[str]:
    """Names of the files, the newest first."""
    found: dict[str, float] = {}
    for folder in _folders():
        for path in folder.rglob(f"*{SUFFIX}"):
            name = path.relative_to(folder).as_posix()
            try:
                path_inside(name)
                found.setdefault(name, path.stat().st_mtime)
            except (PrefixNameError, OSError):
                continue
    return sorted(found, key=lambda name: found[name], reverse=True) or [NONE_YET]


def _found(name: Any) -> Path:
    """Where the chosen file lies.

    Raises:
        ExpertsError: there is none, or a link leads elsewhere.
        PrefixNameError: that is no name of a file.
    """
    if not isinstance(name, str) or name == NONE_YET:
        raise ExpertsError(
            f"There are no experts to load: learn some with Learn Experts, or put a file into models/{FOLDER}."
        )
    inside = path_inside(name)
    for folder in _folders():
        path = (folder / inside).resolve()
        if path.is_file():
            if path.is_relative_to(folder.resolve()):
                return path
            raise ExpertsError(f"'{name}' is a link that leads out of models/{FOLDER}: put the file itself there.")
    raise ExpertsError(f"There is no file of experts '{name}': put it into models/{FOLDER}, or choose another.")


NODES = [LearnExperts, SaveExperts, LoadExperts, RoutePrompt, MeasureExperts]
