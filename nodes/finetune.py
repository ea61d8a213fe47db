"""Defines the node Fine-tune on Captions."""

from __future__ import annotations

from typing import Any

import comfy.model_management
import comfy.sd
import torch
from comfy_api.v0_0_2 import io
from torch import Tensor

from ..engines.denoiser import LORA
from ..engines.options import Drawing
from ..finetuning.progress import words_of_losses
from ..finetuning.settings import FinetuningSettings
from ..prefix.errors import TrainingError
from .server.current_run import followed_finetuning
from .shared.folder import work_folder
from .shared.inputs import checked
from .shared.interface import advanced, seed_widget, shown_progress, size_widgets, tell, widget
from .shared.usual import usual_drawing_here

LoraSocket = io.Custom("LORA_MODEL")
"""Carries what the host's own Save LoRA and Load LoRA Model take."""

LISTS = ("images", "captions")

GENERAL = 64
"""Pictures that are mixed in where nothing is said."""


class FineTuneOnCaptions(io.ComfyNode):
    """Teaches a model to follow captions, as a LoRA."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Sockets, widgets and words of the node."""
        return io.Schema(
            node_id="FineTuneOnCaptions",
            display_name="Fine-tune on Captions",
            category="anonymize",
            description="Teaches a model to follow descriptions, from pictures and their captions: a LoRA on the model"
            " and on its text encoder. Pictures that the model draws itself are mixed in, so that it forgets little of"
            " the rest. The connected model is not changed.",
            is_output_node=True,
            is_input_list=True,
            inputs=[
                io.Image.Input("images", tooltip="The pictures: a list, of any sizes, or a batch."),
                io.String.Input(
                    "captions",
                    force_input=True,
                    tooltip="A caption for each picture, in their order, such as those of Describe Faces.",
                ),
                io.Model.Input("model", tooltip="The model that learns. It is not changed."),
                io.Clip.Input("clip", tooltip="Its text encoder, straight from the loader. It is not changed."),
                io.Vae.Input("vae", tooltip="Its VAE."),
                widget(FinetuningSettings, "steps"),
                widget(FinetuningSettings, "batch_size"),
                widget(FinetuningSettings, "rank"),
                io.Boolean.Input(
                    "text_encoder",
                    default=True,
                    tooltip="Whether the text encoder learns as well: words that it does not know need that.",
                ),
                io.Int.Input(
                    "general_pictures",
                    default=GENERAL,
                    min=0,
                    max=10_000,
                    tooltip="Pictures that the model draws first, of general_prompts, and that are mixed in against"
                    " forgetting. About a quarter of what is learned is a good number. 0: none.",
                ),
                seed_widget(FinetuningSettings),
                *map(advanced, size_widgets("Width that is learned at.", "Height that is learned at.")),
                widget(FinetuningSettings, "learning_rate", optional=True),
                advanced(
                    io.String.Input(
                        "general_prompts",
                        multiline=True,
                        default="",
                        optional=True,
                        placeholder="what must not be forgotten, one prompt a line (empty: a built-in list)",
                        tooltip="What the model must not forget, one prompt a line: things, places, styles, names."
                        " Empty: a built-in list.",
                    )
                ),
                widget(FinetuningSettings, "new_words", optional=True),
            ],
            hidden=[io.Hidden.extra_pnginfo, io.Hidden.prompt],
            outputs=[
                io.Model.Output(display_name="model", tooltip="The model with what it learned."),
                io.Clip.Output(display_name="clip", tooltip="Its text encoder with what it learned."),
                LoraSocket.Output(
                    display_name="lora",
                    tooltip="What was learned, for Save LoRA Weights; Load LoRA reads the file, and has strengths.",
                ),
                io.String.Output(display_name="report", tooltip="What was learned from, and how the loss fell."),
            ],
        )

    @classmethod
    @checked(lists=LISTS)
    def execute(
        cls,
        images: tuple[Tensor, ...],
        captions: tuple[str, ...],
        model: Any,
        clip: Any,
        vae: Any,
        general_pictures: int,
        width: int,
        height: int,
        general_prompts: str = "",
        **settings: Any,
    ) -> io.NodeOutput:
        """Draws what is mixed in, learns, and hands on."""
        # Loaded here, so that the host's start does not wait for it.
        from ..engines.comfy.denoiser import ComfyDenoiser
        from ..engines.comfy.tuning import lora_of
        from ..faces.pictures import pictures_of
        from ..finetuning.general import general_set, mixed
        from ..finetuning.loop import RECIPE, finetuned
        from ..finetuning.training_set import training_set_of
        from ..runs.run_folder import RunFolder, kept_once_done, run_key
        from ..trainer.data.prompts import GENERAL_PROMPTS, lines_of

        pictures = [
            torch.from_numpy(pixels.copy()).float() / 255 for batch in images for pixels in pictures_of(batch, "images")
        ]
        if len(pictures) != len(captions) or not all(caption.strip() for caption in captions):
            raise TrainingError(
                f"There are {len(pictures)} pictures and {sum(bool(one.strip()) for one in captions)} captions: connect"
                " a caption for each picture, such as captions and pictures of Describe Faces."
            )
        chosen = FinetuningSettings(kind=LORA, **settings)
        usual = usual_drawing_here(model, cls.hidden)
        denoiser = ComfyDenoiser(model, clip, vae, usual.size(width, height), usual.drawing(Drawing(0, 0.0)))
        show, check = shown_progress(), comfy.model_management.throw_exception_if_processing_interrupted
        steps = chosen.resolved(denoiser).steps
        of = general_pictures + steps
        workflow = (cls.hidden.extra_pnginfo or {}).get("workflow")
        prompts = lines_of(general_prompts) or [prompt for prompt in GENERAL_PROMPTS if prompt]
        with (
            followed_finetuning(workflow, lambda done, whole: show(general_pictures + done, of), check) as followed,
            kept_once_done(),
        ):

            def drawn(done: int, _: int) -> None:
                followed.drawing(done, general_pictures)
                show(done, of)

            learned = training_set_of(denoiser, pictures, captions, check)
            general = {"general": [general_pictures, *prompts], "learned": learned.digest}
            key = run_key(recipe=RECIPE, model=denoiser.digest, settings=chosen, **general)
            with RunFolder(work_folder("fine-tuning"), key) as folder:
                if general_pictures:
                    drawn_set = general_set(denoiser, prompts, general_pictures, chosen.seed, drawn, check, folder)
                    learned = mixed(learned, drawn_set)
                runs = folder.inner("tuning")
                with finetuned(denoiser, learned, chosen, followed.callbacks, runs, is_result=True) as tuned:
                    lora = lora_of(tuned.weights, clip)
                folder.remove()
            notes = (*tuned.notes, *([folder.trouble] if folder.trouble else []))
            followed.end(len(tuned.history), tuned.stopped, notes)
        taught, encoder = comfy.sd.load_lora_for_models(model, clip, lora, 1.0, 1.0)
        told = (*([tuned.stopped] if tuned.stopped else []), *notes)
        report = _report(len(pictures), general_pictures, tuned.history, told)
        return io.NodeOutput(taught, encoder, lora, report, ui=tell(report))


def _report(pictures: int, general: int, history: tuple[float, ...], notes: tuple[str, ...]) -> str:
    """What a person is told of a run."""
    lines = [
        f"Learned from {pictures} pictures with captions and {general} that the model drew itself, in"
        f" {len(history)} steps.",
        words_of_losses(history),
        "Draw with and without it, from the same seeds, before you keep it.",
        *notes,
    ]
    return "\n".join(lines)


NODES = [FineTuneOnCaptions]
