"""Defines the nodes that protect photographs, and that measure how well a protection holds."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import comfy.cli_args
import comfy.model_management
import torch
from comfy_api.v0_0_2 import io, ui
from torch import Tensor

from ..engines.options import Drawing
from ..finetuning.settings import FinetuningSettings
from ..photos.settings import UNSEEN_PROMPTS, AttackSettings, ProtectionSettings
from ..prefix.errors import PhotoError
from .hosted.recognizers import CHOICES, hosted_finder, hosted_recognizer
from .server.current_run import followed_finetuning
from .shared.folder import work_folder
from .shared.inputs import checked
from .shared.interface import advanced, said_meanwhile, seed_widget, shown_progress, size_widgets, tell, widget
from .shared.usual import usual_drawing_here

if TYPE_CHECKING:
    import numpy as np

    from ..engines.comfy.denoiser import ComfyDenoiser

MAGNIFIED = 16
"""How many times the difference is shown."""

METADATA = (
    "Save Image writes this workflow into the PNG, with the names of your files and the seed: start ComfyUI with"
    " --disable-metadata before you publish what it saves."
)

SIZES = ("Width that the model sees photos at.", "Height that the model sees photos at.")


class ProtectPhotos(io.ComfyNode):
    """Changes photos a little, so that a model learns little of who is in them."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ProtectPhotos",
            display_name="Protect Photos",
            category="anonymize",
            description="Changes photos of a person by a few levels of brightness, so that models of this family that"
            " are trained on them learn something else. Raises the cost of one misuse, no more: read the report. Save"
            " as PNG.",
            is_output_node=True,
            inputs=[
                io.Image.Input("photos", tooltip="Photos of one person, at the size at which you publish them."),
                io.Model.Input(
                    "model", tooltip="A model of the family that an attacker would train. It is not changed."
                ),
                io.Clip.Input("clip", tooltip="Its text encoder, straight from the loader. It is not changed."),
                io.Vae.Input("vae", tooltip="Its VAE, which most of the protection works against. It is not changed."),
                widget(ProtectionSettings, "budget"),
                widget(ProtectionSettings, "method"),
                widget(ProtectionSettings, "steps"),
                widget(ProtectionSettings, "withstand"),
                seed_widget(ProtectionSettings),
                *map(advanced, size_widgets(*SIZES)),
                widget(ProtectionSettings, "prompt", optional=True),
                widget(ProtectionSettings, "target_prompt", optional=True),
                io.Mask.Input(
                    "mask", optional=True, tooltip="Where photos may change, such as the face. Empty: everywhere."
                ),
                io.Image.Input(
                    "pull_towards",
                    optional=True,
                    tooltip="A picture of something else, which the model is to see instead. Without one the model"
                    " draws one.",
                ),
            ],
            hidden=[io.Hidden.extra_pnginfo, io.Hidden.prompt],
            outputs=[
                io.Image.Output(display_name="photos", tooltip="The protected photos, in 8 bits. Save them as PNG."),
                io.String.Output(
                    display_name="report", tooltip="What was changed, and what it does not protect against."
                ),
                io.Image.Output(display_name="difference", tooltip="What was changed, 16 times as strong, on grey."),
            ],
        )

    @classmethod
    @checked()
    def execute(
        cls,
        photos: Tensor,
        model: Any,
        clip: Any,
        vae: Any,
        width: int,
        height: int,
        mask: Tensor | None = None,
        pull_towards: Tensor | None = None,
        **settings: Any,
    ) -> io.NodeOutput:
        """Protects, and shows what was changed."""
        # Loaded here, so that the host's start does not wait for it.
        from ..faces.pictures import pictures_of
        from ..photos.faces import told_of_faces
        from ..photos.protect import ProtectionCallbacks, protect
        from ..photos.report import describe_protection
        from ..runs.run_folder import kept_once_done

        chosen = ProtectionSettings(**settings)
        before = pictures_of(photos, "photos")
        target = None if pull_towards is None else pictures_of(pull_towards[:1], "pull_towards")[0]
        masks = None if mask is None else _masks(mask, len(before))
        denoiser = _denoiser(cls.hidden, model, clip, vae, width, height)
        show, check = shown_progress(), comfy.model_management.throw_exception_if_processing_interrupted
        say = said_meanwhile((cls.hidden.extra_pnginfo or {}).get("workflow"))
        of_faces = told_of_faces(partial(hosted_finder, denoiser.family), before)
        with kept_once_done():
            protected = protect(
                denoiser,
                list(before),
                chosen,
                masks=masks,
                target=target,
                callbacks=ProtectionCallbacks(show, check, plan=lambda plan: say(plan.words)),
                runs=work_folder("photos"),
            )
        after = torch.stack([torch.from_numpy(photo.copy()).float() / 255 for photo in protected.photos])
        plain = torch.from_numpy(before.copy()).float() / 255
        difference = (0.5 + MAGNIFIED * (after - plain)).clamp(0, 1)
        notes = of_faces if comfy.cli_args.args.disable_metadata else (*of_faces, METADATA)
        report = describe_protection(protected, chosen, notes)
        if photos.shape[-1] == 4:  # What is transparent stays so.
            after = torch.cat([after, photos[..., 3:].float().cpu()], dim=-1)
            report = f"The photos are transparent in places: that stays as it is.\n{report}"
        shown = ui.PreviewImage(after, cls=cls).as_dict() | tell(report).as_dict()
        return io.NodeOutput(after, report, difference, ui=shown)


class MeasurePhotoProtection(io.ComfyNode):
    """Trains on photos as an attacker would, and says whether the person is still drawn."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MeasurePhotoProtection",
            display_name="Measure Photo Protection",
            category="anonymize",
            description="Plays the attacker: trains a copy of the model on the original and on the protected photos,"
            " draws the person with both, and says how often the person is recognized. The model is not changed.",
            is_output_node=True,
            inputs=[
                io.Image.Input("original", tooltip="The photos as they were."),
                io.Image.Input("protected", tooltip="The same photos from Protect Photos, better loaded from PNG."),
                io.Model.Input("model", tooltip="The model that the attacker trains a copy of. It is not changed."),
                io.Clip.Input("clip", tooltip="Its text encoder, straight from the loader. It is not changed."),
                io.Vae.Input("vae", tooltip="Its VAE."),
                io.Combo.Input(
                    "recognizer",
                    options=CHOICES,
                    default=CHOICES[0],
                    tooltip="Who recognizes faces, as in Measure Anonymization: facenet knows real ones, the demo"
                    " reader those of the demo model alone.",
                ),
                widget(FinetuningSettings, "kind", "attacker"),
                widget(AttackSettings, "purification"),
                widget(FinetuningSettings, "steps"),
                widget(AttackSettings, "images_per_prompt"),
                seed_widget(FinetuningSettings),
                *map(advanced, size_widgets(*SIZES)),
                *(widget(FinetuningSettings, name, optional=True) for name in ("learning_rate", "rank")),
                io.String.Input(
                    "prompts",
                    multiline=True,
                    default="",
                    optional=True,
                    placeholder="what the attacker draws, one prompt a line (empty: a built-in list)",
                    tooltip="What the attacker draws, one prompt a line. Photos are learned as 'a photo of sks"
                    " person', so say 'sks person'. Empty: a built-in list.",
                ),
                io.Image.Input(
                    "strangers",
                    optional=True,
                    tooltip="Photos of other people of the same looks. With them the report says how often the person"
                    " ranks first among all.",
                ),
            ],
            hidden=[io.Hidden.extra_pnginfo, io.Hidden.prompt],
            outputs=[
                io.String.Output(display_name="report", tooltip="The verdict in plain words, and the figures."),
                io.Image.Output(
                    display_name="pictures", tooltip="What was drawn after learning from originals, and from protected."
                ),
                io.Image.Output(display_name="plot", tooltip="How alike each picture is to the person."),
                io.Float.Output(
                    display_name="recognized",
                    tooltip="Share of pictures in which the person is recognized after learning from the protected"
                    " photos.",
                ),
            ],
        )

    @classmethod
    @checked()
    def execute(
        cls,
        original: Tensor,
        protected: Tensor,
        model: Any,
        clip: Any,
        vae: Any,
        recognizer: str,
        attacker: str,
        purification: str,
        steps: int,
        images_per_prompt: int,
        seed: int,
        width: int,
        height: int,
        learning_rate: float = FinetuningSettings.learning_rate,
        rank: int = FinetuningSettings.rank,
        prompts: str = "",
        strangers: Tensor | None = None,
    ) -> io.NodeOutput:
        """Attacks twice, and compares."""
        # Loaded here, so that the host's start does not wait for it.
        from ..evaluation.reporting.grid import labelled_grid
        from ..faces.pictures import pictures_of
        from ..photos.attack import TITLES, attack_both, gallery_of, person_of
        from ..photos.plot import plot_similarities
        from ..photos.report import describe_attacks, verdict
        from ..runs.run_folder import kept_once_done
        from ..trainer.data.prompts import lines_of

        before, after = pictures_of(original, "original"), pictures_of(protected, "protected")
        if len(before) != len(after):
            raise PhotoError(
                f"There are {len(before)} original photos and {len(after)} protected ones: connect the same photos,"
                " in the same order."
            )
        finetuning = FinetuningSettings(kind=attacker, steps=steps, seed=seed, learning_rate=learning_rate, rank=rank)
        how = AttackSettings(
            finetuning,
            purification,
            prompts=lines_of(prompts) or UNSEEN_PROMPTS,
            images_per_prompt=images_per_prompt,
        )
        denoiser = _denoiser(cls.hidden, model, clip, vae, width, height)
        show, check = shown_progress(), comfy.model_management.throw_exception_if_processing_interrupted
        workflow = (cls.hidden.extra_pnginfo or {}).get("workflow")
        with (
            followed_finetuning(workflow, lambda done, of: None, check, can_stop=False) as followed,
            hosted_recognizer(recognizer, show) as hosted,
            kept_once_done(),
        ):
            others = None if strangers is None else gallery_of(hosted, list(pictures_of(strangers, "strangers")))
            person = person_of(hosted, list(before), others)
            plain, changed = attack_both(
                denoiser,
                hosted,
                list(before),
                list(after),
                person,
                how,
                report=lambda title, done, of: show(TITLES.index(title) * of + done, len(TITLES) * of),
                check=check,
                learning=followed.callbacks,
                runs=work_folder("attacks"),
            )
            followed.end(len(TITLES) * finetuning.resolved(denoiser).steps)
            threshold = hosted.threshold
        told = describe_attacks(plain, changed, how, person, threshold)
        rows = {"from originals": plain.similarities, "from protected": changed.similarities}
        plot = plot_similarities(verdict(plain, changed), rows, threshold.value)
        cells = [list(pair) for pair in zip(plain.pictures, changed.pictures, strict=True)]
        labels = [prompt for prompt in how.prompts for _ in range(how.images_per_prompt)]
        grid = labelled_grid(["learned from originals", "learned from protected"], labels, cells)
        shown = ui.PreviewImage(plot, cls=cls).as_dict() | tell(told).as_dict()
        return io.NodeOutput(told, grid, plot, changed.recognized, ui=shown)


def _denoiser(hidden: Any, model: Any, clip: Any, vae: Any, width: int, height: int) -> ComfyDenoiser:
    from ..engines.comfy.denoiser import ComfyDenoiser

    usual = usual_drawing_here(model, hidden)
    return ComfyDenoiser(model, clip, vae, usual.size(width, height), usual.drawing(Drawing(0, 0.0)))


def _masks(mask: Tensor, count: int) -> list[np.ndarray]:
    """A mask for each photo, of a MASK `[n, height, width]` or `[height, width]`.

    Raises:
        PhotoError: there are neither one nor as many as photos.
    """
    whole = mask.reshape(-1, *mask.shape[-2:]).float().cpu().numpy()
    if len(whole) not in (1, count):
        raise PhotoError(f"There are {count} photos and {len(whole)} masks: connect one mask, or one for each photo.")
    return [whole[number if len(whole) > 1 else 0] for number in range(count)]


NODES = [ProtectPhotos, MeasurePhotoProtection]
