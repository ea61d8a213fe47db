"""Has a protected pipeline change only the faces of what it draws.

The plain prompt is encoded beside the protected one, and `face_blending` draws by both.
"""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any, TypeVar

from ...prefix.enforced_setting import read_face_region
from ...prefix.errors import AnonymizationError, PrefixMismatchError
from ...prefix.face_region import FaceRegion
from ..options import USUAL_REGION, RegionSettings
from ..two_pictures import region_for
from .face_blending import UNetBlending, beta_levels
from .prompt_arguments import encoded_plain
from .protection import MARK, unprotected
from .witness import named_like

Pipeline = TypeVar("Pipeline")

KINDS = ("StableDiffusionPipeline", "StableDiffusionXLPipeline")
"""Classes of diffusers' pipelines that can do it: text to image of Stable Diffusion 1 and 2, and XL."""

REFUSED = ("prompt_embeds", "ip_adapter_image", "ip_adapter_image_embeds", "guidance_rescale")
"""Arguments that cannot be given, as they say nothing of the plain picture, or alter answers afterwards."""

REGION = "_anonymization_region"
"""Attribute of a pipeline that changes faces alone which holds how much of a picture counts as face."""

_DRAWING: ContextVar[UNetBlending | None] = ContextVar("drawing", default=None)
"""What is drawing right now."""


def change_faces_alone(pipeline: Pipeline, settings: RegionSettings = USUAL_REGION) -> Pipeline:
    """A protected pipeline that changes the faces alone of what it draws; the one that came in stays as it is.

    Both have everything in common but their class. Where an operator's setting is found, as servers have it, it must
    allow this, and `settings` below the usual ones are raised to them.

    Args:
        pipeline: as `protect_pipeline` made it: Stable Diffusion 1, 2 or XL, text to image. Its prefix knows where
            faces are.

    Raises:
        PrefixMismatchError: the pipeline is of another kind or not protected, its scheduler is not known, or the prefix
            does not say where faces are, or says so of other latents.
        AnonymizationError: the operator does not allow it.
    """
    of: Any = type(pipeline)
    prefix = getattr(of, MARK, None)
    if prefix is None or hasattr(of, REGION):
        raise PrefixMismatchError("Give a pipeline that 'protect_pipeline' has made, and that is protected as a whole.")
    plain = next(plain for plain in of.__mro__ if not hasattr(plain, MARK))
    if plain.__name__ not in KINDS or not plain.__module__.startswith("diffusers."):
        raise PrefixMismatchError(
            f"{plain.__name__} cannot change faces alone: use {' or '.join(KINDS)} of diffusers, or this one with the"
            " whole prefix."
        )
    allowed = read_face_region(os.environ)
    if allowed is False:
        raise AnonymizationError(
            "The operator's setting asks for every prompt to be anonymized as a whole: use the protected pipeline as it"
            " is, or ask the operator to allow 'face_region'."
        )
    settings = settings if allowed is None else settings.no_less_than(USUAL_REGION)
    given: Any = pipeline
    region = region_for(prefix, given.unet.config.in_channels, "the protected pipeline as it is")
    beta_levels(pipeline)
    changed = object.__new__(_class_of(of, region, settings))
    vars(changed).update(vars(pipeline))
    return changed


def _class_of(protected: Any, region: FaceRegion, settings: RegionSettings) -> Any:
    """The class of a protected pipeline, but drawing by a plain prompt, too."""
    taken, encoding = inspect.signature(protected.__call__), inspect.signature(protected.encode_prompt)

    class FacesAlone(protected):
        @functools.wraps(protected.__call__)
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            if settings.is_full:
                return super().__call__(*args, **kwargs)
            _require_supported(taken.bind(self, *args, **kwargs).arguments)
            drawing = UNetBlending(self, region, settings)
            token = _DRAWING.set(drawing)
            try:
                with drawing.joined():
                    return super().__call__(*args, **kwargs)
            finally:
                _DRAWING.reset(token)

        @functools.wraps(protected.encode_prompt)
        def encode_prompt(self, *args: Any, **kwargs: Any) -> Any:
            made = super().encode_prompt(*args, **kwargs)
            drawing = _DRAWING.get()
            if drawing is not None and drawing.pipeline is self:
                bound = encoding.bind(self, *args, **kwargs)
                bound.apply_defaults()
                given = bound.arguments
                device = given.get("device") or self._execution_device
                drawing.plain = encoded_plain(unprotected(self), given, device)
            return made

        def __copy__(self) -> Any:
            return change_faces_alone(super().__copy__(), settings)

        def __deepcopy__(self, memo: Any) -> Any:
            return change_faces_alone(super().__deepcopy__(memo), settings)

        def __reduce_ex__(self, protocol: Any) -> Any:
            protect, arguments = super().__reduce_ex__(protocol)
            return _again, (protect, arguments, settings)

    setattr(FacesAlone, REGION, settings)
    named_like(FacesAlone, protected)
    return FacesAlone


def _again(protect: Any, arguments: tuple[Any, ...], settings: RegionSettings) -> Any:
    return change_faces_alone(protect(*arguments), settings)


def _require_supported(given: Mapping[str, Any]) -> None:
    """Raises `PrefixMismatchError` for arguments that faces alone cannot be drawn with."""
    for name in REFUSED:
        if given.get(name) is not None and not (name == "guidance_rescale" and given[name] == 0):
            raise PrefixMismatchError(
                f"Faces alone cannot be changed with '{name}': leave it out and give the prompt as text, or use the"
                " protected pipeline as it is."
            )
