"""Protects a pipeline of diffusers: its prompts are encoded with the prefix.

Every pipeline of these families hands its prompts, the negative one too, to its method `encode_prompt`. A protected
pipeline has one of its own, which puts the prefix into every chunk. Its denoiser draws from what was made there alone;
see `witness`. So embeddings that a protected pipeline has made are as good as text, and any others are refused.
"""

from __future__ import annotations

import copy
import functools
import inspect
import pickle
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from ...prefix.errors import PrefixMismatchError, first_line
from ...prefix.provenance import require_family
from ...prefix.value import Prefix
from .pipeline_families import FLUX, SD1, SD2, PipelineFamily
from .prompt_arguments import encoded, lora_scaled
from .prompt_encoding import PromptEncoder
from .witness import named_like, plain_part, witness_of

Pipeline = TypeVar("Pipeline")

MARK = "_anonymization_prefix"
"""Attribute of a protected pipeline that holds its prefix."""

READERS = frozenset(f"{part}{number}" for part in ("tokenizer", "text_encoder") for number in ("", "_2", "_3"))
"""What reads words in `encode_prompt`."""


def protect_pipeline(pipeline: Pipeline, prefix: Prefix) -> Pipeline:
    """The pipeline, protected: every prompt it is given carries the prefix, in each chunk of each text encoder.

    What comes back has all weights in common with the pipeline that came in, which stays as it is, and takes prompts of
    any length. Its denoiser and text encoders are guarded: they raise `PrefixMismatchError` rather than work on a
    prompt without the prefix, also in a pipeline that is made of them (`from_pipe`, `components`), until that one is
    protected too.

    Args:
        pipeline: of diffusers: Stable Diffusion 1, 2, XL, 3 or Flux; text to image, image to image, inpainting, …
        prefix: learned on a model of this family.

    Raises:
        PrefixMismatchError: the pipeline is of no supported family or protected already, the prefix is of another
            family, or it does not fit the text encoders.
    """
    encoder = PromptEncoder(pipeline)
    plain: Any = type(pipeline)
    if hasattr(plain, MARK):
        raise PrefixMismatchError("This pipeline carries a prefix already: protect the one that it was made of.")
    if not _encodes_as_usual(plain, encoder.family) or _reads_elsewhere(pipeline):
        raise PrefixMismatchError(
            f"{plain.__name__} does not encode its prompts where a prefix could enter: use a pipeline of"
            " Stable Diffusion 1, 2, XL or 3, or of Flux, that leaves a 'prompt' to 'encode_prompt' and takes no words"
            " beside it."
        )
    require_family(prefix.record, encoder.parts)
    encoder.require_fit(prefix.vectors)
    parts = {name: witness_of(prefix).guarded(name, part) for name, part in vars(pipeline).items()}
    guarded = [plain_part(part) for name, part in parts.items() if part is not plain_part(part)]
    for name, part in parts.items():
        if not name.startswith("_") and part is plain_part(part) and _holds(part, guarded):
            raise PrefixMismatchError(
                f"{plain.__name__} has a part, '{name}', that asks its models by itself, where nobody sees what they"
                " are told: use another pipeline of this family."
            )
    protected = object.__new__(_protected_class(plain, prefix))
    vars(protected).update(parts)
    return protected


def is_protected(pipeline: Any) -> bool:
    """Whether a pipeline carries a prefix, or parts of one that does."""
    return hasattr(type(pipeline), MARK) or any(part is not plain_part(part) for part in vars(pipeline).values())


def _holds(value: Any, wanted: Sequence[Any], depth: int = 5) -> bool:
    """Whether an object holds on to one of these modules, as samplers of k-diffusion do to the denoiser."""
    if any(value is one for one in wanted):
        return True
    if depth == 0 or isinstance(value, torch.Tensor | str | int | float | type):
        return False
    if isinstance(value, Mapping):
        held: Any = value.values()
    elif isinstance(value, list | tuple):
        held = value
    else:
        held = getattr(value, "__dict__", {}).values()
    return any(_holds(one, wanted, depth - 1) for one in held)


def _protected_class(plain: Any, prefix: Prefix) -> Any:
    """The class of a pipeline, but its prompts are encoded with the prefix, and its parts guarded whoever sets them."""
    witness = witness_of(prefix)

    class Protected(plain):
        encode_prompt = _encode_prompt(plain.encode_prompt)

        def __setattr__(self, name: str, value: Any) -> None:
            super().__setattr__(name, witness.guarded(name, value))

        def __copy__(self) -> Any:
            return protect_pipeline(unprotected(self), prefix)

        def __deepcopy__(self, memo: Any) -> Any:
            return protect_pipeline(copy.deepcopy(unprotected(self), memo), prefix)

        def __reduce_ex__(self, protocol: Any) -> Any:
            pipeline = unprotected(self)
            _require_picklable(pipeline, protocol)
            return protect_pipeline, (pipeline, prefix)

        def save_pretrained(self, *args: Any, **kwargs: Any) -> None:
            raise PrefixMismatchError(
                "A folder of diffusers keeps no prefix, and what is loaded from it would draw unprotected: save the"
                " pipeline that was protected, and protect it again, with 'protect_pipeline', when it is loaded."
            )

    setattr(Protected, MARK, prefix)
    named_like(Protected, plain)
    return Protected


def unprotected(pipeline: Any) -> Any:
    """A protected pipeline as it was before."""
    copied: Any = object.__new__(next(plain for plain in type(pipeline).__mro__ if not hasattr(plain, MARK)))
    vars(copied).update({name: plain_part(part) for name, part in vars(pipeline).items()})
    return copied


def _require_picklable(pipeline: Any, protocol: Any) -> None:
    try:
        pickle.Pickler(_Nowhere(), protocol).dump(pipeline)
    except Exception as error:  # Every part says it in its own way.
        raise PrefixMismatchError(
            f"This pipeline has a part that cannot be pickled ({first_line(error)}), with a prefix or without: hand on"
            " the folder that it was loaded from, and protect it where it is loaded again."
        ) from error


class _Nowhere:
    """A file that keeps nothing of what is written."""

    def write(self, data: Any) -> int:
        """Forgets the data."""
        return len(data)


def _encodes_as_usual(pipeline: Any, family: PipelineFamily) -> bool:
    """Whether a class of pipelines has an `encode_prompt` that takes and returns what its family's do."""
    method = getattr(pipeline, "encode_prompt", None)
    taken = set() if method is None else set(inspect.signature(method).parameters)
    pooled, negative = "pooled_prompt_embeds" in taken, "negative_prompt" in taken
    usual = pooled == (family not in (SD1, SD2)) and negative == (family is not FLUX)
    return {"prompt", "prompt_embeds"} <= taken and usual


def _reads_elsewhere(pipeline: Any) -> bool:
    """Whether words reach the pipeline around `encode_prompt`: by readers of their own, phrases, or embeddings."""
    readers = {name for name in pipeline.components if "tokenizer" in name or "text_encoder" in name}
    around = [
        name
        for name in inspect.signature(type(pipeline).__call__).parameters
        if name.endswith("phrases")
        or (name.endswith("_embeds") and not name.endswith(("prompt_embeds", "image_embeds")))
    ]
    return bool(readers - READERS or around)


def _encode_prompt(plain: Any) -> Any:
    signature = inspect.signature(plain)

    @functools.wraps(plain)
    def encode_prompt(self: Any, *args: Any, **kwargs: Any) -> tuple[Tensor | None, ...]:
        """Encodes prompts as the pipeline does, each with the prefix."""
        bound = signature.bind(self, *args, **kwargs)
        bound.apply_defaults()
        given = bound.arguments
        prefix = getattr(self, MARK)
        witness = witness_of(prefix)
        device = given.get("device") or self._execution_device
        with torch.no_grad(), witness.reading(), lora_scaled(self, given.get("lora_scale")):
            made = encoded(self, prefix, given, device, witness)
        witness.remember(*made[:2] if len(made) == 3 else made)
        return made

    return encode_prompt
