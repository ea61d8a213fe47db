"""Tells which parts of a pipeline are text encoders, and what becomes of their states.

A pipeline's family is told by its denoiser and its text encoders, so that text to image, image to image and inpainting
pipelines of one family are alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...prefix.errors import PrefixMismatchError
from ..automatic import DISTILLED, SCHNELL

STREAM = "t5xxl"
"""The one key of these pipelines whose encoder reads a prompt as a stream; the others are CLIPs."""


@dataclass(frozen=True)
class PipelineFamily:
    """What pipelines of one family have in common.

    Attributes:
        name: as a prefix's record calls it.
        parts: `(encoder key, attribute of its tokenizer, of its text encoder, of its prompt's argument)`.
        length: tokens to which the pipeline pads a stream's prompts.
    """

    name: str
    parts: tuple[tuple[str, str, str, str], ...]
    length: int = 0


_FIRST = ("tokenizer", "text_encoder", "prompt")
_SECOND = ("tokenizer_2", "text_encoder_2", "prompt_2")
_THIRD = ("tokenizer_3", "text_encoder_3", "prompt_3")

SD1 = PipelineFamily("sd1", (("l", *_FIRST),))
SD2 = PipelineFamily("sd2", (("h", *_FIRST),))
SDXL = PipelineFamily("sdxl", (("l", *_FIRST), ("g", *_SECOND)))
SD3 = PipelineFamily("sd3", (("l", *_FIRST), ("g", *_SECOND), (STREAM, *_THIRD)), length=256)
FLUX = PipelineFamily("flux", (("l", *_FIRST), (STREAM, *_SECOND)), length=512)

_OF_TRANSFORMER = {"SD3Transformer2DModel": SD3, "FluxTransformer2DModel": FLUX}


def pipeline_family(pipeline: Any) -> PipelineFamily:
    """The family of a diffusers pipeline.

    Raises:
        PrefixMismatchError: it is of none that a prefix can protect.
    """
    transformer = type(getattr(pipeline, "transformer", None)).__name__
    if transformer in _OF_TRANSFORMER:
        return _OF_TRANSFORMER[transformer]
    if type(getattr(pipeline, "unet", None)).__name__ == "UNet2DConditionModel":
        if getattr(pipeline, "text_encoder_2", None) is not None:
            return SDXL
        activation = getattr(getattr(getattr(pipeline, "text_encoder", None), "config", None), "hidden_act", None)
        # OpenAI's CLIP, SD1's, computes with another function than OpenCLIP's, SD2's.
        if activation in ("quick_gelu", "gelu"):
            return SD1 if activation == "quick_gelu" else SD2
    raise PrefixMismatchError(
        f"{type(pipeline).__name__} is a pipeline of no family that a prefix can protect: use one of Stable Diffusion"
        " 1, 2, XL or 3, or of Flux."
    )


FEW_STEPS = frozenset({"LCMScheduler", "TCDScheduler"})
"""Schedulers of models that were distilled to few steps."""


def drawing_names(pipeline: Any) -> tuple[str, ...]:
    """The names by which `engines.automatic.usual_drawing` knows the pipeline, the one that fits best first.

    Raises:
        PrefixMismatchError: see `pipeline_family`.
    """
    family = pipeline_family(pipeline)
    if family is FLUX and not pipeline.transformer.config.guidance_embeds:
        return SCHNELL, family.name
    return (DISTILLED, family.name) if type(pipeline.scheduler).__name__ in FEW_STEPS else (family.name,)
