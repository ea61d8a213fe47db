"""Encodes the prompts that a pipeline's `encode_prompt` is given, with a prefix or as they are."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from ...prefix.errors import PrefixMismatchError
from ...prefix.meta_network import vectors_of
from ...prefix.value import Prefix
from .pipeline_families import FLUX, SD1, SD2, PipelineFamily
from .prompt_encoding import Encoded, PromptEncoder, PromptTokens
from .witness import Witness

Side = tuple[Tensor, Tensor | None]
"""States `[n, length, d]` and pooled outputs `[n, d]` of the prompts, or of the negative ones."""


def encoded(pipeline: Any, prefix: Prefix, given: Mapping[str, Any], device: Any, witness: Witness) -> tuple[Any, ...]:
    """What the pipeline's own `encode_prompt` would return, with the prefix.

    Args:
        given: arguments of that method, by name.

    Raises:
        PrefixMismatchError: there is no prompt that the prefix can enter, or it does not hold for what is asked.
    """
    parameters = prefix.parameters
    vectors = vectors_of(parameters)
    encoder = PromptEncoder(pipeline, given.get("max_sequence_length"))
    encoder.require_fit(vectors)
    encoder.require_layers(prefix.record, given.get("clip_skip"))
    ready = _embeddings(given, "", encoder.family, witness)
    positive = [] if ready else _texts(encoder, given, "")
    count = len(ready[0]) if ready else len(positive)
    guided = bool(given.get("do_classifier_free_guidance"))
    unwanted = _embeddings(given, "negative_", encoder.family, witness) if guided else None
    negative = _negatives(encoder, given, count) if guided and not unwanted else []
    given_texts = [*positive, *negative]
    # What it does nothing to is read in the chunks that it would have without.
    without = {place for place, texts in enumerate(given_texts) if encoder.lets_by(texts, prefix)}
    tokens = [encoder.tokens(texts, None if place in without else vectors) for place, texts in enumerate(given_texts)]
    fixed = ready or unwanted
    if fixed and tokens:
        tokens = _fitted(encoder, tokens, fixed[0].shape[1], vectors, without)
    read = encoder.encode(encoder.leveled(tokens, vectors, without), given.get("clip_skip"), parameters, without)
    states: Any
    pooled: Any
    states, pooled = _batch(pipeline, ready or _rows(read[: len(positive)]), given, device)
    negative_states, negative_pooled = _batch(pipeline, unwanted or _rows(read[len(positive) :]), given, device)
    if not unwanted and given.get("negative_prompt") is None and _silent_without_words(pipeline):
        # No words at all, so nobody can be named in them.
        negative_states, negative_pooled = (torch.zeros_like(plain) if guided else None for plain in (states, pooled))
    if encoder.family in (SD1, SD2):
        return states, negative_states
    if encoder.family is FLUX:
        return states, pooled, torch.zeros(states.shape[1], 3, device=device, dtype=states.dtype)
    return states, negative_states, pooled, negative_pooled


def encoded_plain(pipeline: Any, given: Mapping[str, Any], device: Any) -> Side:
    """The prompts of the same arguments without a prefix, by a pipeline that is not protected, and of any length."""
    encoder = PromptEncoder(pipeline, given.get("max_sequence_length"))
    tokens = [encoder.tokens(texts) for texts in _texts(encoder, given, "")]
    with torch.no_grad(), lora_scaled(pipeline, given.get("lora_scale")):
        read = encoder.encode(encoder.leveled(tokens, None), given.get("clip_skip"))
    states, pooled = _batch(pipeline, _rows(read), given, device)
    assert states is not None
    return states, pooled


def _silent_without_words(pipeline: Any) -> bool:
    """Whether a pipeline puts zeros where no negative prompt is given."""
    return bool(getattr(pipeline.config, "force_zeros_for_empty_prompt", False))


def _embeddings(given: Mapping[str, Any], kind: str, family: PipelineFamily, witness: Witness) -> Side | None:
    """Prompts that are embeddings already; None if there are none.

    Raises:
        PrefixMismatchError: they were not made by a pipeline that this prefix protects, or lack the pooled output.
    """
    states, pooled = given.get(f"{kind}prompt_embeds"), given.get(f"{kind}pooled_prompt_embeds")
    if states is None and pooled is None:
        return None
    if states is None or (pooled is None) != (family in (SD1, SD2)):
        raise PrefixMismatchError(
            f"'{kind}prompt_embeds' and '{kind}pooled_prompt_embeds' say one thing together: give both, as"
            " 'encode_prompt' returned them, or the prompt as text."
        )
    if not all(part is None or witness.made(part) for part in (states, pooled)):
        raise PrefixMismatchError(
            "This pipeline is protected by a prefix, which cannot enter prompts that are embeddings already: give"
            " the prompt as text, or as embeddings that its own 'encode_prompt' has made."
        )
    return states, pooled


def _fitted(
    encoder: PromptEncoder,
    tokens: Sequence[PromptTokens],
    length: int,
    vectors: Mapping[str, Tensor],
    without: Collection[int],
) -> list[PromptTokens]:
    """Prompts made as long as embeddings that are there already, of this length.

    Raises:
        PrefixMismatchError: they are longer.
    """
    blank = encoder.blank(length, vectors)
    *fitted, longest = encoder.leveled([*tokens, blank], vectors, without)
    if any(len(longest[key]) > len(chunks) or len(longest[key][0]) > len(chunks[0]) for key, chunks in blank.items()):
        raise PrefixMismatchError(
            "A prompt that is given as text is longer than the one that is given as embeddings: give both as text, or"
            " both as embeddings."
        )
    return fitted


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


def _rows(encoded: Sequence[Encoded]) -> tuple[Tensor | None, Tensor | None]:
    """Prompts that were encoded one by one, as one batch; None for none."""
    columns = zip(*encoded, strict=True) if encoded else ((None,), (None,))
    states, pooled = (None if rows[0] is None else torch.cat(rows) for rows in columns)
    return states, pooled


def _batch(
    pipeline: Any, rows: tuple[Any, Any], given: Mapping[str, Any], device: Any
) -> tuple[Tensor | None, Tensor | None]:
    """Each prompt as often as pictures are wanted of it, in the number format of the pipeline's encoders."""
    copies = given.get("num_images_per_prompt") or 1
    dtype = pipeline.text_encoder.dtype if getattr(pipeline, "text_encoder", None) is not None else None
    states, pooled = (None if part is None else part.repeat_interleave(copies, 0).to(device, dtype) for part in rows)
    return states, pooled


@contextmanager
def lora_scaled(pipeline: Any, scale: float | None) -> Iterator[None]:
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
