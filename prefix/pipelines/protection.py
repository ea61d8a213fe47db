"""Without this module a pipeline of diffusers would draw whoever is named: its prompts are encoded with the prefix.

Every pipeline of these families hands its prompts, the negative one too, to its method `encode_prompt`. A protected
pipeline has one of its own, which puts the prefix into every chunk; prompts that come as embeddings, into which no
prefix can be put any more, are refused.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor

from ..errors import PrefixMismatchError
from ..provenance import require_family
from ..value import Prefix
from .encoding import Encoded, PromptEncoder
from .families import FLUX, SD1, SD2

Pipeline = TypeVar("Pipeline")

MARK = "_anonymization_prefix"
"""Attribute of a protected pipeline that holds its prefix."""


READERS = frozenset(f"{part}{number}" for part in ("tokenizer", "text_encoder") for number in ("", "_2", "_3"))
"""What reads words in `encode_prompt`."""


def protect(prefix: Prefix, pipeline: Pipeline) -> Pipeline:
    """The pipeline, protected: every prompt it is given carries the prefix, in each chunk of each text encoder.

    What comes back shares all parts with the pipeline that came in, which stays as it is, and takes prompts of any
    length. A pipeline that is made of it, by `from_pipe` or of its `components`, is not protected: protect that one.

    Args:
        prefix: learned on a model of this family.
        pipeline: of diffusers: Stable Diffusion 1, 2, XL, 3 or Flux; text to image, image to image, inpainting, …

    Raises:
        PrefixMismatchError: the pipeline is of no supported family or protected already, the prefix is of another
            family, or it does not fit the text encoders.
    """
    encoder = PromptEncoder(pipeline)
    if hasattr(pipeline, MARK):
        raise PrefixMismatchError("This pipeline carries a prefix already: protect the one that it was made of.")
    if not hasattr(pipeline, "encode_prompt") or _reads_elsewhere(pipeline):
        raise PrefixMismatchError(
            f"{type(pipeline).__name__} does not encode its prompts where a prefix could enter: use a pipeline of"
            " Stable Diffusion 1, 2, XL or 3, or of Flux, that has 'encode_prompt'."
        )
    require_family(prefix.record, encoder.parts)
    encoder.require_fit(prefix.vectors)
    protected = copy.copy(pipeline)
    plain = type(pipeline)
    protected.__class__ = type(plain.__name__, (plain,), {"encode_prompt": _encode_prompt(plain.encode_prompt)})
    object.__setattr__(protected, MARK, prefix)
    return protected


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

    def encode_prompt(self: Any, *args: Any, **kwargs: Any) -> tuple[Tensor | None, ...]:
        """Encodes prompts as the pipeline does, each with the prefix."""
        bound = signature.bind(self, *args, **kwargs)
        bound.apply_defaults()
        given = bound.arguments
        if any(given.get(name) is not None for name in given if name.endswith("prompt_embeds")):
            raise PrefixMismatchError(
                "This pipeline is protected by a prefix, which cannot enter prompts that are embeddings already: give"
                " the prompt as text."
            )
        device = given.get("device") or self._execution_device
        with torch.no_grad(), _lora_scaled(self, given.get("lora_scale")):
            return _encoded(self, getattr(self, MARK).vectors, given, device)

    return encode_prompt


def _encoded(pipeline: Any, vectors: Mapping[str, Tensor], given: Mapping[str, Any], device: Any) -> tuple[Any, ...]:
    """What the pipeline's own `encode_prompt` would return, with the prefix."""
    encoder = PromptEncoder(pipeline, given.get("max_sequence_length"))
    encoder.require_fit(vectors)
    encoder.require_layers(getattr(pipeline, MARK).record, given.get("clip_skip"))
    positive = _texts(encoder, given, "")
    negative = _negatives(encoder, given, len(positive)) if given.get("do_classifier_free_guidance") else []
    tokens = encoder.leveled([encoder.tokens(texts, vectors) for texts in [*positive, *negative]], vectors)
    encoded = encoder.encode(tokens, given.get("clip_skip"))
    copies = given.get("num_images_per_prompt") or 1
    dtype = pipeline.text_encoder.dtype if getattr(pipeline, "text_encoder", None) is not None else None
    states, pooled = _batch(encoded[: len(positive)], copies, device, dtype)
    negative_states, negative_pooled = _batch(encoded[len(positive) :], copies, device, dtype)
    if given.get("negative_prompt") is None and getattr(pipeline.config, "force_zeros_for_empty_prompt", False):
        # No words at all, so nobody can be named in them.
        negative_states, negative_pooled = (torch.zeros_like(plain) if negative else None for plain in (states, pooled))
    if encoder.family in (SD1, SD2):
        return states, negative_states
    if encoder.family is FLUX:
        return states, pooled, torch.zeros(states.shape[1], 3, device=device, dtype=states.dtype)
    return states, negative_states, pooled, negative_pooled


def _texts(encoder: PromptEncoder, given: Mapping[str, Any], kind: str) -> list[dict[str, str]]:
    """The prompts by encoder key; an encoder that was given none of its own reads the first one's."""
    first = given.get(f"{kind}prompt")
    if first is None:
        raise PrefixMismatchError("This pipeline is protected by a prefix and was given no prompt: give one as text.")
    texts = {}
    for key, part in encoder.parts.items():
        own = given.get(f"{kind}{part.argument}") or first
        texts[key] = [own] if isinstance(own, str) else list(own)
    count = len([first] if isinstance(first, str) else first)
    if any(len(own) != count for own in texts.values()):
        raise PrefixMismatchError(
            "The text encoders were given different numbers of prompts: give each as many, or one list for all."
        )
    return [{key: own[index] for key, own in texts.items()} for index in range(count)]


def _negatives(encoder: PromptEncoder, given: Mapping[str, Any], count: int) -> list[dict[str, str]]:
    names = [name for name in given if name.startswith("negative_prompt")]
    known: dict[str, Any] = {name: given[name] for name in names if given[name]}
    known.setdefault("negative_prompt", "")
    known = {name: [value] * count if isinstance(value, str) else value for name, value in known.items()}
    texts = _texts(encoder, known, "negative_")
    if len(texts) != count:
        raise PrefixMismatchError(
            f"There are {count} prompts and {len(texts)} negative ones: give as many of both, or one negative prompt."
        )
    return texts


def _batch(encoded: Sequence[Encoded], copies: int, device: Any, dtype: Any) -> tuple[Tensor | None, Tensor | None]:
    """States `[n * copies, length, d]` and pooled outputs `[n * copies, d]`; None for none."""
    columns = zip(*encoded, strict=True) if encoded else ((None,), (None,))
    return tuple(
        None if rows[0] is None else torch.cat(rows).repeat_interleave(copies, 0).to(device, dtype) for rows in columns
    )


@contextmanager
def _lora_scaled(pipeline: Any, scale: float | None) -> Iterator[None]:
    """LoRAs of the text encoders as strong as the caller of the pipeline asks for."""
    if scale is None:
        yield
        return
    from diffusers.utils import scale_lora_layers, unscale_lora_layers

    pipeline._lora_scale = scale
    models = [getattr(pipeline, name, None) for name in ("text_encoder", "text_encoder_2")]
    found = [model for model in models if model is not None]
    for model in found:
        scale_lora_layers(model, scale)
    try:
        yield
    finally:
        for model in found:
            unscale_lora_layers(model, scale)
