"""Defines the node Train Anonymization Prefix."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Any

import comfy.model_management
import comfy.utils
import torch
from comfy_api.v0_0_2 import io, ui
from comfy_execution.utils import get_executing_context

from ..engines.options import AS_THE_HOST, AS_USUAL, CHECKPOINTING, PRECISIONS, Computing, Drawing
from ..trainer.settings import TrainingSettings
from ..trainer.telemetry import PreviewPicture
from .folder import work_folder
from .inputs import checked
from .interface import IdentitiesSocket, PrefixSocket, advanced
from .server.current_run import RUNNING, followed

if TYPE_CHECKING:
    from ..engines.denoiser import Vectors
    from ..trainer.data.identities import Identity
    from ..trainer.progress import Progress

DEFAULTS = TrainingSettings()
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
                        default=AS_USUAL.steps,
                        min=1,
                        max=200,
                        tooltip="Sampler steps for each picture to learn from.",
                    )
                ),
                advanced(
                    io.Float.Input(
                        "drawing_cfg",
                        default=AS_USUAL.cfg,
                        min=1.0,
                        max=30.0,
                        step=0.1,
                        tooltip="Guidance for the pictures to learn from, as you would set it in KSampler for this"
                        " model (1 for Flux).",
                    )
                ),
                advanced(
                    io.Float.Input(
                        "held_out",
                        default=DEFAULTS.held_out,
                        min=0.0,
                        max=0.5,
                        step=0.005,
                        round=0.005,
                        optional=True,
                        tooltip="Share of the people, and of the general prompts, that the prefix does not learn from"
                        " and is examined on. With fewer than 8 people none is held out.",
                    )
                ),
                advanced(
                    io.Combo.Input(
                        "precision",
                        options=list(PRECISIONS),
                        default=AS_THE_HOST.precision,
                        optional=True,
                        tooltip="Number format the model computes in while learning. 'model' is what ComfyUI runs it"
                        " in. The prefix itself is always learned in float32.",
                    )
                ),
                advanced(
                    io.Combo.Input(
                        "gradient_checkpointing",
                        options=list(CHECKPOINTING),
                        default=AS_THE_HOST.checkpointing,
                        optional=True,
                        tooltip="'on' needs much less memory and a third more time; 'auto' does so only if there is"
                        " no room otherwise.",
                    )
                ),
                advanced(
                    io.Int.Input(
                        "text_steps",
                        default=DEFAULTS.text_steps,
                        min=0,
                        max=100_000,
                        optional=True,
                        tooltip="Steps that the prefix learns from the text encoder alone, before the model runs. They"
                        " are quick. SD1, SD2 and SDXL only.",
                    )
                ),
                advanced(
                    io.Float.Input(
                        "overshoot",
                        default=DEFAULTS.overshoot,
                        min=0.0,
                        max=1.0,
                        step=0.05,
                        optional=True,
                        tooltip="How far past 'no identity' to aim for the people learned on, so that people never"
                        " learned on get there too. 0 aims at it.",
                    )
                ),
                advanced(
                    io.Boolean.Input(
                        "vary_names",
                        default=DEFAULTS.vary_names,
                        optional=True,
                        tooltip="Some prompts name people in other ways (capitals, misspelt, surname alone, emphasis,"
                        " late in a long prompt, …), so that the prefix is hard to get around.",
                    )
                ),
            ],
            hidden=[io.Hidden.extra_pnginfo],
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
        from ..trainer.data.prompts import general_prompts as prompts_to_keep
        from ..trainer.loop import PrefixTraining
        from ..trainer.plot import plot_losses
        from ..trainer.preview import BeforeAfter
        from ..trainer.progress import Callbacks
        from ..trainer.report import describe

        chosen = TrainingSettings(**settings)
        computing = Computing(precision, gradient_checkpointing)
        denoiser = ComfyDenoiser(model, clip, vae, (width, height), Drawing(drawing_steps, drawing_cfg), computing)
        prompts = prompts_to_keep(general_prompts, identities)
        check = comfy.model_management.throw_exception_if_processing_interrupted
        bar = comfy.utils.ProgressBar(1)
        pictures: list[torch.Tensor] = []
        context = get_executing_context()

        with followed((cls.hidden.extra_pnginfo or {}).get("workflow")) as telemetry:
            training = PrefixTraining(denoiser, identities, prompts, chosen, runs=work_folder("runs"))
            held_out = training.held_out.validated
            before_after = BeforeAfter(denoiser, held_out or identities, chosen.seed, check)

            def report(progress: Progress) -> None:
                if progress.steps:
                    RUNNING.begin(context.prompt_id if context else None)
                bar.update_absolute(progress.done, sum(progress.of))
                telemetry.note(progress)
                check()

            def show(vectors: Vectors) -> None:
                pictures[:] = [before_after.draw(vectors)]
                telemetry.picture(PreviewPicture(_jpeg(pictures[0]), before_after.people, bool(held_out)))

            try:
                learned = training.learn(Callbacks(report, check, RUNNING.asked, show, telemetry.plan))
            finally:
                RUNNING.end()
            telemetry.score(learned.best)
            telemetry.end("stopped" if learned.stopped else "finished", learned.stopped)
        # Not as "images", which the host would show on the node once more, below the panel.
        shown = {"before_after": ui.PreviewImage(pictures[0], cls=cls).as_dict()["images"]}
        return io.NodeOutput(learned.prefix, plot_losses(learned.history), describe(learned), ui=shown)


def _jpeg(pictures: torch.Tensor) -> bytes:
    """The first of the host's pictures `[1, height, width, 3]`, no wider than a node on the canvas can show."""
    from PIL import Image

    image = Image.fromarray((pictures[0].clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy())
    image.thumbnail((WIDEST, WIDEST))
    file = BytesIO()
    image.save(file, "JPEG", quality=90)
    return file.getvalue()


NODES = [TrainAnonymizationPrefix]
