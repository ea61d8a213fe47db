"""Without this module an artist could not learn a prefix: the node Train Anonymization Prefix."""

from __future__ import annotations

from typing import Any, TypeVar

import comfy.model_management
import comfy.utils
from comfy_api.v0_0_2 import io, ui

from ..trainer.comfy_engine import ComfyDenoiser, Drawing
from ..trainer.identities import Identity
from ..trainer.loop import Progress, learn_prefix
from ..trainer.plot import plot_losses
from ..trainer.preview import before_after
from ..trainer.prompts import general_prompts as prompts_to_keep
from ..trainer.report import describe
from ..trainer.settings import TrainingSettings
from .sockets import IdentitiesSocket, PrefixSocket

DEFAULTS = TrainingSettings()
DRAWING = Drawing()
Widget = TypeVar("Widget", bound=io.WidgetInput)


def advanced(widget: Widget) -> Widget:
    """The widget, shown only when the artist asks for advanced ones."""
    widget.extra_dict["advanced"] = True
    return widget


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
                io.Vae.Input("vae", tooltip="Its VAE; shows people without and with the prefix when learning is done."),
                IdentitiesSocket.Input("identities", tooltip="The people to learn from; connect an Identity List."),
                io.String.Input(
                    "general_prompts",
                    multiline=True,
                    default="",
                    placeholder="prompts to leave alone, one a line (empty: a built-in list)",
                    tooltip="Prompts that name nobody and must stay as they are, one a line. Leave it empty for a"
                    " built-in list. Portraits of the described looks and the empty prompt are always added.",
                ),
                io.Int.Input(
                    "vectors",
                    default=DEFAULTS.vectors,
                    min=1,
                    max=64,
                    tooltip="Length of the prefix. Each vector takes the place of one token of the prompt.",
                ),
                io.Int.Input(
                    "steps",
                    default=DEFAULTS.steps,
                    min=1,
                    max=1_000_000,
                    tooltip="More steps take longer and remove more.",
                ),
                io.Int.Input(
                    "batch_size",
                    default=DEFAULTS.batch_size,
                    min=1,
                    max=256,
                    tooltip="Pictures a step; half of them name people. Lower it if memory runs out.",
                ),
                io.Float.Input(
                    "learning_rate",
                    default=DEFAULTS.learning_rate,
                    min=1e-6,
                    max=1.0,
                    step=1e-6,
                    round=1e-6,
                    tooltip="How far the prefix moves a step at most. Lower it if the losses jump.",
                ),
                io.Int.Input(
                    "seed",
                    default=DEFAULTS.seed,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF,
                    control_after_generate=False,
                    tooltip="The same seed and settings give the same prefix.",
                ),
                advanced(
                    io.String.Input(
                        "init",
                        default=DEFAULTS.init,
                        tooltip="Words that the prefix starts from. Empty: it starts at random.",
                    )
                ),
                advanced(
                    io.Int.Input(
                        "portraits_per_identity",
                        default=DEFAULTS.portraits_per_identity,
                        min=1,
                        max=64,
                        tooltip="Portraits that the model draws of each person to learn from.",
                    )
                ),
                advanced(
                    io.Int.Input(
                        "noisings_per_picture",
                        default=DEFAULTS.noisings_per_picture,
                        min=1,
                        max=1000,
                        tooltip="Noises in which each picture is seen. What the model makes of each is computed once:"
                        " fewer are faster, more are more varied.",
                    )
                ),
                advanced(
                    io.Int.Input(
                        "width",
                        default=512,
                        min=16,
                        max=4096,
                        step=8,
                        tooltip="Width of the pictures to learn from, as the model is used to (SD1 512, SDXL 1024).",
                    )
                ),
                advanced(
                    io.Int.Input(
                        "height",
                        default=512,
                        min=16,
                        max=4096,
                        step=8,
                        tooltip="Height of the pictures to learn from, as the model is used to (SD1 512, SDXL 1024).",
                    )
                ),
                advanced(
                    io.Int.Input(
                        "drawing_steps",
                        default=DRAWING.steps,
                        min=1,
                        max=200,
                        tooltip="Sampler steps for each picture to learn from.",
                    )
                ),
                advanced(
                    io.Float.Input(
                        "drawing_cfg",
                        default=DRAWING.cfg,
                        min=1.0,
                        max=30.0,
                        step=0.1,
                        tooltip="Guidance for the pictures to learn from, as you would set it in KSampler for this"
                        " model (1 for Flux).",
                    )
                ),
            ],
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
        **settings: Any,
    ) -> io.NodeOutput:
        """Draws, learns, and shows what came of it."""
        chosen = TrainingSettings(**settings)
        denoiser = ComfyDenoiser(model, clip, vae, (width, height), Drawing(drawing_steps, drawing_cfg))
        bar = comfy.utils.ProgressBar(1)

        def show(progress: Progress) -> None:
            bar.update_absolute(progress.pictures + progress.steps, progress.all_pictures + progress.all_steps)
            comfy.model_management.throw_exception_if_processing_interrupted()

        learned = learn_prefix(denoiser, identities, prompts_to_keep(general_prompts, identities), chosen, show)
        preview = before_after(
            denoiser,
            identities,
            learned.prefix.vectors,
            chosen.seed,
            comfy.model_management.throw_exception_if_processing_interrupted,
        )
        return io.NodeOutput(
            learned.prefix, plot_losses(learned.history), describe(learned), ui=ui.PreviewImage(preview, cls=cls)
        )


NODES = [TrainAnonymizationPrefix]
