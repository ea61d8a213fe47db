"""Defines the nodes Anonymize Face Region, which changes faces and nothing else, and Face Mask, which shows where."""

from __future__ import annotations

from typing import Any

from comfy_api.v0_0_2 import io, ui

from ..engines.comfy.face_region import change_faces_alone, face_masks, with_plain
from ..engines.comfy.protected_clip import protect, read_beside, unprotect
from ..engines.comfy.text_encoders import encoder_fingerprint, tokenized_keys
from ..engines.options import USUAL_REGION, RegionSettings
from ..prefix import AnonymizationError, Prefix, checkpoint_note, load_prefix, require_family
from ..prefix.bypass import ANY_EMBEDDINGS
from .anonymize import ChoosesPrefix
from .enforcement.guards import Guarding
from .shared.folder import file_choices, find_file
from .shared.inputs import checked
from .shared.interface import PrefixSocket, tell, widget

COLUMNS = ("before", "after", "mask")
"""What the slider can show on either side."""


class AnonymizeFaceRegion(ChoosesPrefix, io.ComfyNode):
    """Encodes a prompt with and without a prefix, and has a model draw the difference in faces alone."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Sockets, widgets and words of the node."""
        return io.Schema(
            node_id="AnonymizeFaceRegion",
            display_name="Anonymize Face Region",
            category="anonymize",
            description=(
                "Changes faces and nothing else: scene, clothes and light stay as they were without protection. It"
                " takes the place of Anonymize Faces and of the positive prompt. The prefix must have learned where"
                " faces are."
            ),
            inputs=[
                io.Model.Input("model", tooltip="The model to draw with. It stays as it is; use the output."),
                io.Clip.Input("clip", tooltip="Its text encoder, straight from the loader. It stays as it is."),
                io.String.Input(
                    "text", multiline=True, dynamic_prompts=True, tooltip="The positive prompt, as in CLIP Text Encode."
                ),
                io.Combo.Input(
                    "prefix",
                    options=file_choices(),
                    optional=True,
                    tooltip="The prefix to protect with: a file in models/anonymization_prefixes, learned with"
                    " 'face_region' on, on a checkpoint of the same family.",
                ),
                *(widget(RegionSettings, name, optional=True) for name in ("certainty", "margin", "softness")),
                PrefixSocket.Input(
                    "learned_prefix",
                    optional=True,
                    tooltip="A prefix from Train Anonymization Prefix or Load Anonymization Prefix. If connected, it is"
                    " used instead of the file.",
                ),
            ],
            outputs=[
                io.Model.Output(display_name="MODEL", tooltip="The model that changes faces alone, for every sampler."),
                io.Conditioning.Output(
                    display_name="positive",
                    tooltip="The prompt for that sampler. With any other model it is protected as a whole.",
                ),
                io.Clip.Output(
                    display_name="CLIP", tooltip="The protected text encoder, for the negative prompt and all others."
                ),
            ],
        )

    @classmethod
    @checked("prefix")
    def execute(
        cls,
        model: Any,
        clip: Any,
        text: str,
        prefix: str | None = None,
        certainty: float = USUAL_REGION.certainty,
        margin: float = USUAL_REGION.margin,
        softness: float = USUAL_REGION.softness,
        learned_prefix: Prefix | None = None,
    ) -> io.NodeOutput:
        """Encodes the prompt twice, and wraps the model."""
        settings = RegionSettings(certainty, margin, softness)
        enforcement, embeddings = Guarding.enforcement, ANY_EMBEDDINGS
        if enforcement is not None:
            chosen, settings = _enforced(settings)
            embeddings = enforcement.embeddings
        else:
            chosen = learned_prefix if learned_prefix is not None else load_prefix(find_file(prefix))
        changed = change_faces_alone(model, chosen, settings)
        protected = protect(clip, chosen, 1.0, embeddings=embeddings, strict=enforcement is not None)
        require_family(chosen.record, tokenized_keys(clip))
        told, told_plain = (
            one.encode_from_tokens_scheduled(one.tokenize(text)) for one in (protected, unprotect(clip))
        )
        said = [
            "The whole picture is covered: this is the whole prefix."
            if settings.is_full
            else f"Faces alone are changed, so that {settings.certainty:.0%} of them are covered as a whole."
        ]
        notes = (checkpoint_note(chosen.record, encoder_fingerprint(clip)), read_beside(clip))
        said += [note for note in notes if note]
        return io.NodeOutput(changed, with_plain(told, told_plain), protected, ui=tell("\n".join(said)))


def _enforced(settings: RegionSettings) -> tuple[Prefix, RegionSettings]:
    """The operator's prefix, and settings that protect no less than is usual."""
    enforcement = Guarding.enforcement
    if enforcement is None or enforcement.prefix is None or not enforcement.face_region:
        raise AnonymizationError(
            (enforcement and enforcement.fault)
            or "This server must anonymize every prompt as a whole: use Anonymize Faces, or ask its operator to allow"
            " Anonymize Face Region."
        )
    return enforcement.prefix, settings.no_less_than(USUAL_REGION)


class FaceMask(io.ComfyNode):
    """Shows where faces are in pictures that were drawn."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Sockets, widgets and words of the node."""
        return io.Schema(
            node_id="FaceMask",
            display_name="Face Mask",
            category="anonymize",
            description=(
                "Shows which place of a drawn picture counted as face: a preview, and a mask for inpainting,"
                " compositing or detailing. Nothing is downloaded, and no face detector is needed."
            ),
            is_output_node=True,
            inputs=[
                io.Model.Input("model", tooltip="The model of Anonymize Face Region."),
                io.Conditioning.Input("positive", tooltip="The positive prompt of Anonymize Face Region."),
                io.Latent.Input("samples", tooltip="The drawn pictures, from the sampler."),
                io.Image.Input(
                    "before",
                    optional=True,
                    tooltip="The same pictures without protection. With 'after', the node compares them with a slider.",
                ),
                io.Image.Input("after", optional=True, tooltip="The drawn pictures, decoded."),
            ],
            outputs=[io.Mask.Output(display_name="MASK", tooltip="1 where a face is, else 0; one for each picture.")],
        )

    @classmethod
    @checked()
    def execute(cls, model: Any, positive: Any, samples: Any, before: Any = None, after: Any = None) -> io.NodeOutput:
        """Looks once at each picture."""
        mask = face_masks(model, positive, samples["samples"])
        covered = float((mask > 0).float().mean())
        shown = ui.PreviewMask(mask, cls=cls).as_dict()
        if before is not None and after is not None:
            columns = [ui.PreviewImage(images, cls=cls).as_dict()["images"] for images in (before, after)]
            columns.append(shown.pop("images"))
            count = min(map(len, columns))
            shown = {"compared": [one for column in columns for one in column[:count]], "labels": [*COLUMNS]}
        return io.NodeOutput(mask, ui={**shown, **tell(f"{covered:.0%} of the picture is covered.").as_dict()})


NODES = [AnonymizeFaceRegion, FaceMask]
