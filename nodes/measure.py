"""Defines the node Measure Anonymization."""

from __future__ import annotations

from comfy_api.v0_0_2 import io, ui
from torch import Tensor

from .hosted.recognizers import CHOICES, hosted_recognizer
from .shared.inputs import checked
from .shared.interface import shown_progress, tell


class MeasureAnonymization(io.ComfyNode):
    """Says whether the people in plain pictures are still recognized in anonymized ones."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MeasureAnonymization",
            display_name="Measure Anonymization",
            category="anonymize",
            description="Compares the faces in pictures drawn without and with a prefix, from the same prompts and"
            " seeds, and says whether the people are still recognized, and by how much.",
            is_output_node=True,
            inputs=[
                io.Image.Input("plain", tooltip="Pictures drawn without a prefix."),
                io.Image.Input(
                    "anonymized",
                    tooltip="The same pictures, drawn with a prefix: same prompts, seeds, order and number.",
                ),
                io.Combo.Input(
                    "recognizer",
                    options=CHOICES,
                    default=CHOICES[0],
                    tooltip="Who looks for faces. facenet knows real ones; it needs facenet-pytorch and downloads its"
                    " weights (107 MB) into models/facenet at the first use. The demo reader knows the faces of the"
                    " demo model alone.",
                ),
                io.Image.Input(
                    "reference",
                    optional=True,
                    tooltip="Photos of the person, or of several people, to compare with as well. The largest face of"
                    " each counts.",
                ),
            ],
            outputs=[
                io.String.Output(
                    display_name="report", tooltip="The verdict in plain words, and the figures behind it."
                ),
                io.Image.Output(
                    display_name="plot",
                    tooltip="The pairs that are most alike, with the faces found in them, and all similarities.",
                ),
                io.Float.Output(
                    display_name="similarity",
                    tooltip="Mean similarity of faces, plain to anonymized: 1 is the same face. NaN if there was"
                    " nothing to compare.",
                ),
            ],
        )

    @classmethod
    @checked()
    def execute(
        cls, plain: Tensor, anonymized: Tensor, recognizer: str, reference: Tensor | None = None
    ) -> io.NodeOutput:
        # Loaded here, so that the host's start does not wait for it.
        from ..faces.measurement import measure
        from ..faces.pictures import pictures_of
        from ..faces.plot import plot_measurement
        from ..faces.report import describe

        before, after = pictures_of(plain, "plain"), pictures_of(anonymized, "anonymized")
        photos = None if reference is None else pictures_of(reference, "reference")
        show = shown_progress()
        with hosted_recognizer(recognizer, show) as hosted:
            measured = measure(hosted, before, after, photos, show)
        report, plot = describe(measured), plot_measurement(measured, before, after)
        shown = ui.PreviewImage(plot, cls=cls).as_dict() | tell(report).as_dict()
        return io.NodeOutput(report, plot, measured.similarity.mean, ui=shown)


NODES = [MeasureAnonymization]
