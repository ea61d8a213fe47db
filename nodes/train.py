"""Defines the node Train Anonymization Prefix."""

from __future__ import annotations

import dataclasses
from functools import partial
from io import BytesIO
from typing import TYPE_CHECKING, Any

import comfy.model_management
import comfy.utils
import torch
from comfy_api.v0_0_2 import io, ui
from comfy_execution.utils import get_executing_context

from ..engines.automatic import drawn_with
from ..engines.options import AS_THE_HOST, Computing, Drawing
from ..prefix.files.preview import SIDE as PREVIEW_SIDE
from ..trainer.reporting.telemetry import PreviewPicture
from ..trainer.settings import TrainingSettings
from .server.current_run import RUNNING, followed
from .shared.folder import work_folder
from .shared.inputs import checked
from .shared.interface import (
    IdentitiesSocket,
    PrefixSocket,
    advanced,
    drawing_widgets,
    seed_widget,
    size_widgets,
    widget,
)
from .shared.usual import usual_drawing_here

if TYPE_CHECKING:
    from ..engines.denoiser import Vectors
    from ..trainer.data.identities import Identity
    from ..trainer.progress import Progress

SIZE = "{} of the pictures to learn from."
WIDEST = 1600
"""Pixels of the pictures that are shown while learning."""


class TrainAnonymizationPrefix(io.ComfyNode):
    """Learns a prefix on the connected model."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Sockets, widgets and words of the node."""
        return io.Schema(
            node_id="TrainAnonymizationPrefix",
            display_name="Train Anonymization Prefix",
            category="anonymize",
            description="Learns a prefix that takes the faces of named people out of a model's pictures and leaves"
            " everything else. Needs no pictures: the model draws what it learns from. Nothing in the model changes.",
            inputs=[
                io.Model.Input("model", tooltip="The model to learn on. It is not changed."),
                io.Clip.Input("clip", tooltip="Its text encoder, straight from the loader. It is not changed."),
                io.Vae.Input("vae", tooltip="Its VAE; shows people without and with the prefix while it learns."),
                IdentitiesSocket.Input("identities", tooltip="The people to learn from; connect an Identity List."),
                io.String.Input(
                    "general_prompts",
                    multiline=True,
                    default="",
                    placeholder="prompts of yours to leave alone, one a line (may be empty)",
                    tooltip="Prompts of yours that name nobody and must stay as they are, one a line. A built-in list,"
                    " portraits of the described looks and the empty prompt are always among them.",
                ),
                *(widget(TrainingSettings, name) for name in ("vectors", "steps", "batch_size", "learning_rate")),
                seed_widget(TrainingSettings),
                *(
                    widget(TrainingSettings, name)
                    for name in ("init", "portraits_per_identity", "noisings_per_picture")
                ),
                *map(advanced, size_widgets(SIZE.format("Width"), SIZE.format("Height"))),
                *map(
                    advanced,
                    drawing_widgets(
                        ("drawing_steps", "drawing_cfg"),
                        "Sampler steps for each picture to learn from.",
                        "Guidance for the pictures to learn from, as in KSampler.",
                    ),
                ),
                # From here on optional, in the order in which versions brought them: so saved workflows have them.
                widget(TrainingSettings, "held_out", optional=True),
                widget(Computing, "precision", optional=True),
                widget(Computing, "checkpointing", "gradient_checkpointing", optional=True),
                *(
                    widget(TrainingSettings, name, optional=True)
                    for name in (
                        *("text_steps", "overshoot", "vary_names"),
                        *("preset", "people_drawn", "general_drawn", "patience", "conditional"),
                        *("harden", "face_region"),
                    )
                ),
            ],
            hidden=[io.Hidden.extra_pnginfo, io.Hidden.prompt],
            outputs=[
                PrefixSocket.Output(
                    display_name="prefix",
                    tooltip="The learned prefix, for Anonymize Faces and Save Anonymization Prefix.",
                ),
                io.Image.Output(display_name="loss plot", tooltip="How the losses fell, step by step."),
                io.String.Output(display_name="report", tooltip="What was learned, in plain words."),
            ],
        )

    @classmethod
    @checked()
    def execute(
        cls,
        model: Any,
        clip: Any,
        vae: Any,
        identities: tuple[Identity, ...],
        general_prompts: str,
        width: int,
        height: int,
        drawing_steps: int,
        drawing_cfg: float,
        precision: str = AS_THE_HOST.precision,
        gradient_checkpointing: str = AS_THE_HOST.checkpointing,
        **settings: Any,
    ) -> io.NodeOutput:
        """Draws, learns, and shows what came of it."""
        # The trainer is loaded here, so that the host's start does not wait for it.
        from ..engines.comfy.denoiser import ComfyDenoiser
        from ..runs.run_folder import kept_once_done
        from ..trainer.data.prompts import general_prompts as prompts_to_keep
        from ..trainer.progress import Callbacks
        from ..trainer.reporting.plot import plot_losses
        from ..trainer.reporting.preview import BeforeAfter
        from ..trainer.reporting.report import describe
        from ..trainer.training import PrefixTraining
        from .hosted.recognizers import hosted_finder

        chosen = TrainingSettings(**settings)
        computing = Computing(precision, gradient_checkpointing)
        usual = usual_drawing_here(model, cls.hidden)
        size = usual.size(width, height)
        drawing = usual.drawing(Drawing(drawing_steps, drawing_cfg), chosen.drawing_share)
        denoiser = ComfyDenoiser(model, clip, vae, size, drawing, computing)
        prompts = prompts_to_keep(general_prompts, identities)
        check = comfy.model_management.throw_exception_if_processing_interrupted
        bar = comfy.utils.ProgressBar(1)
        pictures: list[torch.Tensor] = []
        context = get_executing_context()

        with followed((cls.hidden.extra_pnginfo or {}).get("workflow")) as telemetry:
            training = PrefixTraining(
                denoiser,
                identities,
                prompts,
                chosen,
                runs=work_folder("runs"),
                pictures=work_folder("pictures"),
                finding=partial(hosted_finder, denoiser.family),
            )
            held_out = training.held_out.people
            before_after = BeforeAfter(denoiser, held_out or identities, chosen.seed, check)
            before_after.try_decoding()

            def report(progress: Progress) -> None:
                if progress.steps:
                    RUNNING.begin(context.prompt_id if context else None)
                bar.update_absolute(progress.done, sum(progress.of))
                telemetry.note(progress)
                check()

            def show(vectors: Vectors) -> None:
                pictures[:] = [before_after.draw(vectors)]
                telemetry.picture(PreviewPicture(_jpeg(pictures[0], WIDEST), before_after.people, bool(held_out)))

            try:
                with kept_once_done():
                    learned = training.learn(Callbacks(report, check, RUNNING.asked, show, telemetry.plan))
                asked_to_stop = RUNNING.asked()
            finally:
                RUNNING.end()
            telemetry.score(learned.figures)
            telemetry.end("stopped" if asked_to_stop else "finished", learned.stopped)
        report = f"{describe(learned)}\n{drawn_with(size, drawing, usual)}"
        # Not as "images", which the host would show on the node once more, below the panel.
        shown = {"before_after": ui.PreviewImage(pictures[0], cls=cls).as_dict()["images"]}
        prefix = dataclasses.replace(learned.prefix, preview=_jpeg(pictures[0], PREVIEW_SIDE))
        return io.NodeOutput(prefix, plot_losses(learned.history), report, ui=shown)


def _jpeg(pictures: torch.Tensor, widest: int) -> bytes:
    """The first of the host's pictures `[1, height, width, 3]`, with sides of so many pixels at most."""
    from PIL import Image

    image = Image.fromarray((pictures[0].clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy())
    image.thumbnail((widest, widest))
    file = BytesIO()
    image.save(file, "JPEG", quality=90)
    return file.getvalue()


NODES = [TrainAnonymizationPrefix]
