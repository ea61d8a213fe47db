"""Defines the node Evaluate Anonymization."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import comfy.samplers
import folder_paths
from comfy_api.v0_0_2 import io, ui
from comfy_execution.graph_utils import ExecutionBlocker
from torch import Tensor

from ..engines.options import AS_USUAL, Drawing
from ..evaluation.settings import CAPTIONS, EvaluationSettings, QualitySettings
from ..prefix import MeasurementError
from ..trainer.data.prompts import lines_of
from .hosted.recognizers import CHOICES, DEMO_READER, hosted_quality, hosted_recognizer
from .shared.chosen_prefixes import PLACES, chosen_prefixes, contents_of, fault_of_choice, learned_sockets, prefix_lists
from .shared.folder import work_folder
from .shared.inputs import checked, quoted
from .shared.interface import (
    IdentitiesSocket,
    PrefixSocket,
    drawing_widgets,
    seed_widget,
    shown_progress,
    size_widgets,
    tell,
    widget,
)
from .shared.usual import usual_drawing_here

if TYPE_CHECKING:
    from ..faces.gallery import Gallery
    from ..faces.recognizer import Recognizer
    from ..trainer.data.identities import Identity

DEFAULTS = EvaluationSettings()
NOBODY_TO_SAVE = "There is no prefix that was evaluated: choose one in Evaluate Anonymization, or connect one."


class EvaluateAnonymization(io.ComfyNode):
    """Draws people without and with prefixes, and measures what is left of them."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EvaluateAnonymization",
            display_name="Evaluate Anonymization",
            category="anonymize",
            description="Measures prefixes as the method's paper does: draws people without and with each prefix from"
            " the same prompts and noises, and puts the figures side by side. Broken off, it goes on where it was.",
            is_output_node=True,
            inputs=[*_asked_for(), *_files(), *_more(), *_wires()],
            hidden=[io.Hidden.prompt],
            outputs=_outputs(),
        )

    @classmethod
    def validate_inputs(cls, prefix_1: Any = None) -> bool | str:
        """Refuses a missing file before anything runs; a name that comes from another node is only known later.

        Takes the first alone: the host repeats what is said here for every input that is taken. Of the others newer
        hosts see to it that they are in the list, and `execute` looks before it draws.
        """
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
        recognizer: str,
        prompts: str,
        general_prompts: str,
        images_per_name: int,
        images_per_prompt: int,
        steps: int,
        cfg: float,
        seed: int,
        width: int,
        height: int,
        batch_size: int,
        filename_prefix: str,
        sampler_name: str = AS_USUAL.sampler,
        scheduler: str = AS_USUAL.scheduler,
        strangers: int = EvaluationSettings.strangers,
        quality: str = QualitySettings.quality,
        clip_model: str = QualitySettings.clip_model,
        identities: tuple[Identity, ...] | None = None,
        references: Tensor | None = None,
        **prefixes: Any,
    ) -> io.NodeOutput:
        """Draws, reads, scores, and shows what came of it."""
        # Loaded here, so that the host's start does not wait for it.
        from ..engines.comfy.denoiser import ComfyDenoiser
        from ..evaluation.job import evaluate
        from ..evaluation.reporting.files import write_files
        from ..evaluation.reporting.picture import draw_table
        from ..evaluation.reporting.report import describe
        from ..evaluation.results import scored, to_json

        settings = EvaluationSettings(
            prompts=lines_of(prompts),
            general_prompts=(lines_of(general_prompts) or CAPTIONS) if images_per_prompt else (),
            images_per_name=images_per_name,
            images_per_prompt=max(images_per_prompt, 1),
            strangers=strangers,
            seed=seed,
            batch_size=batch_size,
        )
        people = _people(identities, recognizer)
        chosen = dict(chosen_prefixes(prefixes))
        usual = usual_drawing_here(model, cls.hidden)
        size, drawing = usual.size(width, height), usual.drawing(Drawing(steps, cfg, sampler_name, scheduler))
        denoiser = ComfyDenoiser(model, clip, vae, size, drawing)
        show = shown_progress()
        with hosted_recognizer(recognizer, show) as hosted, hosted_quality(quality, clip_model, show) as quality_scores:
            evaluation = evaluate(
                denoiser,
                hosted,
                people,
                chosen,
                settings,
                drawing=dataclasses.asdict(drawing),
                gallery=None if references is None else _gallery(hosted, references, people),
                quality=quality_scores,
                runs=work_folder("evaluations"),
                report=show,
            )
        folder = _new_folder(filename_prefix)
        files = write_files(evaluation, folder)
        report = f"{describe(evaluation)}\n\n{files.html}"
        first = next(iter(chosen.values()), None)
        prefix = ExecutionBlocker(NOBODY_TO_SAVE) if first is None else scored(first, evaluation)
        table = draw_table(evaluation)
        shown = ui.PreviewImage(table, cls=cls).as_dict() | tell(report).as_dict()
        return io.NodeOutput(report, table, to_json(evaluation), str(folder), prefix, ui=shown)


def _asked_for() -> list[io.Input]:
    """What is drawn, and how: the inputs that must be there."""
    return [
        io.Model.Input("model", tooltip="The model to draw with. It is not changed."),
        io.Clip.Input("clip", tooltip="Its text encoder, straight from the loader. It is not changed."),
        io.Vae.Input("vae", tooltip="Its VAE."),
        io.Combo.Input(
            "recognizer",
            options=CHOICES,
            default=CHOICES[0],
            tooltip="Who recognizes faces, as in Measure Anonymization: facenet knows real ones, the demo"
            " reader those of the demo model alone.",
        ),
        io.String.Input(
            "prompts",
            multiline=True,
            default="\n".join(DEFAULTS.prompts),
            tooltip="What is drawn of each person, one prompt a line. The word 'name' in curly braces"
            " stands for the name.",
        ),
        io.String.Input(
            "general_prompts",
            multiline=True,
            default="",
            placeholder="prompts that name nobody, one a line (empty: a built-in list)",
            tooltip="Prompts that name nobody, to see how far they move and what that costs in quality. Take"
            " others than the prefix was learned on. Empty: a built-in list of captions.",
        ),
        widget(EvaluationSettings, "images_per_name"),
        widget(EvaluationSettings, "images_per_prompt"),
        *drawing_widgets(),
        seed_widget(EvaluationSettings),
        *size_widgets("Width of the pictures.", "Height of the pictures."),
        widget(EvaluationSettings, "batch_size"),
        io.String.Input(
            "filename_prefix",
            default="evaluations/anonymization",
            tooltip="Where results go, below the output folder: a folder with JSON, CSV and a page of HTML.",
        ),
    ]


def _files() -> list[io.WidgetInput]:
    """Prefixes by their names."""
    return prefix_lists(
        "A prefix to measure: a file in models/anonymization_prefixes. The plain model is always measured beside it."
    )


def _more() -> list[io.Input]:
    """What few need to change."""
    return [
        widget(Drawing, "sampler", "sampler_name", options=comfy.samplers.KSampler.SAMPLERS, optional=True),
        widget(Drawing, "scheduler", options=comfy.samplers.KSampler.SCHEDULERS, optional=True),
        widget(EvaluationSettings, "strangers", optional=True),
        widget(QualitySettings, "quality", optional=True),
        widget(QualitySettings, "clip_model", optional=True),
    ]


def _wires() -> list[io.Input]:
    """What comes from other nodes and may be missing."""
    return [
        IdentitiesSocket.Input(
            "identities",
            optional=True,
            tooltip="The people to measure, better not those the prefix was learned on; connect an Identity"
            " List. Without one, the demo reader takes the demo people that nothing is learned on.",
        ),
        *learned_sockets("A prefix to measure, from Train or Load Anonymization Prefix."),
        io.Image.Input(
            "references",
            optional=True,
            tooltip="Photos of the people, as many of each, in the order of the list. Without them, pictures"
            " that the plain model draws in other noise stand for their faces.",
        ),
    ]


def _outputs() -> list[io.Output]:
    return [
        io.String.Output(
            display_name="report", tooltip="Verdict, table, and what the figures rest on, in plain words."
        ),
        io.Image.Output(display_name="table", tooltip="The table, and the same noises with each prefix."),
        io.String.Output(display_name="json", tooltip="All figures, of each person too, as JSON."),
        io.String.Output(display_name="folder", tooltip="The folder with the JSON, CSV and HTML files."),
        PrefixSocket.Output(
            display_name="prefix",
            tooltip="The first prefix, its figures in its record, with what produced them; for Save"
            " Anonymization Prefix.",
        ),
    ]


def _people(identities: tuple[Identity, ...] | None, recognizer: str) -> tuple[Identity, ...]:
    if identities is not None:
        return identities
    if recognizer != DEMO_READER:
        raise MeasurementError("Nobody is named: connect an Identity List with the people to measure.")
    from ..demo.world.people import identities as cast

    return cast(unseen=(True,))


def _gallery(recognizer: Recognizer, references: Tensor, people: tuple[Identity, ...]) -> Gallery:
    from ..evaluation.photos import gallery_of_photos
    from ..faces.pictures import pictures_of

    photos = pictures_of(references, "references")
    each, rest = divmod(len(photos), len(people))
    if rest or not each:
        raise MeasurementError(
            f"There are {len(photos)} reference photos of {len(people)} people: connect as many of each person, in the"
            " order of the list."
        )
    return gallery_of_photos(recognizer, ((index // each, photo) for index, photo in enumerate(photos)))


def _new_folder(filename_prefix: str) -> Path:
    """A folder that is not there yet, numbered as the host numbers pictures.

    Raises:
        MeasurementError: it would lie elsewhere, or cannot be made.
    """
    try:
        below, name, number, *_ = folder_paths.get_save_image_path(filename_prefix, folder_paths.get_output_directory())
    except Exception as error:  # The host raises whatever its paths raise, and words for its console.
        raise MeasurementError(
            f"Results can only be saved below the output folder, not as {quoted(filename_prefix)}: choose another"
            " filename_prefix."
        ) from error
    return Path(below) / f"{name}_{number:05}_"


NODES = [EvaluateAnonymization]
