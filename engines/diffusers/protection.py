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
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor

from ...prefix.errors import PrefixMismatchError, first_line
from ...prefix.meta_network import Parameters, vectors_of
from ...prefix.provenance import require_family
from ...prefix.value import Prefix
from .pipeline_families import FLUX, SD1, SD2, PipelineFamily
from .prompt_encoding import Encoded, PromptEncoder, PromptTokens
from .witness import Witness, named_like, plain_part, witness_of

Pipeline = TypeVar("Pipeline")

MARK = "_anonymization_prefix"
"""Attribute of a protected pipeline that holds its prefix."""

READERS = frozenset(f"{part}{number}" for part in ("tokenizer", "text_encoder") for number in ("", "_2", "_3"))
"""What reads words in `encode_prompt`."""

Side = tuple[Tensor, Tensor | None]
"""States `[n, length, d]` and pooled outputs `[n, d]` of the prompts, or of the negative ones."""


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
            return protect_pipeline(_unprotected(self, plain), prefix)

        def __deepcopy__(self, memo: Any) -> Any:
            return protect_pipeline(copy.deepcopy(_unprotected(self, plain), memo), prefix)

        def __reduce_ex__(self, protocol: Any) -> Any:
            pipeline = _unprotected(self, plain)
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


def _unprotected(pipeline: Any, plain: Any) -> Any:
    """A protected pipeline as it was before, of this class."""
    copied = object.__new__(plain)
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
        with torch.no_grad(), witness.reading(), _lora_scaled(self, given.get("lora_scale")):
            made = _encoded(self, prefix.parameters, given, device, witness)
        witness.remember(*made[:2] if len(made) == 3 else made)
        return made

    return encode_prompt


def _encoded(
    pipeline: Any, parameters: Parameters, given: Mapping[str, Any], device: Any, witness: Witness
) -> tuple[Any, ...]:
    """What the pipeline's own `encode_prompt` would return, with the prefix."""
    vectors = vectors_of(parameters)
    encoder = PromptEncoder(pipeline, given.get("max_sequence_length"))
    encoder.require_fit(vectors)
    encoder.require_layers(getattr(pipeline, MARK).record, given.get("clip_skip"))
    ready = _embeddings(given, "", encoder.family, witness)
    positive = [] if ready else _texts(encoder, given, "")
    count = len(ready[0]) if ready else len(positive)
    guided = bool(given.get("do_classifier_free_guidance"))
    unwanted = _embeddings(given, "negative_", encoder.family, witness) if guided else None
    negative = _negatives(encoder, given, count) if guided and not unwanted else []
    tokens = [encoder.tokens(texts, vectors) for texts in [*positive, *negative]]
    fixed = ready or unwanted
    if fixed and tokens:
        tokens = _fitted(encoder, tokens, fixed[0].shape[1], vectors)
    encoded = encoder.encode(encoder.leveled(tokens, vectors), given.get("clip_skip"), parameters)
    copies = given.get("num_images_per_prompt") or 1
    dtype = pipeline.text_encoder.dtype if getattr(pipeline, "text_encoder", None) is not None else None
    states: Any
    pooled: Any
    states, pooled = _batch(ready or _rows(encoded[: len(positive)]), copies, device, dtype)
    negative_states, negative_pooled = _batch(unwanted or _rows(encoded[len(positive) :]), copies, device, dtype)
    if not unwanted and given.get("negative_prompt") is None and _silent_without_words(pipeline):
        # No words at all, so nobody can be named in them.
        negative_states, negative_pooled = (torch.zeros_like(plain) if guided else None for plain in (states, pooled))
    if encoder.family in (SD1, SD2):
        return states, negative_states
    if encoder.family is FLUX:
        return states, pooled, torch.zeros(states.shape[1], 3, device=device, dtype=states.dtype)
    return states, negative_states, pooled, negative_pooled


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
    encoder: PromptEncoder, tokens: Sequence[PromptTokens], length: int, vectors: Mapping[str, Tensor]
) -> list[PromptTokens]:
    """Prompts made as long as embeddings that are there already, of this length.

    Raises:
        PrefixMismatchError: they are longer.
    """
    blank = encoder.blank(length, vectors)
    *fitted, longest = encoder.leveled([*tokens, blank], vectors)
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


def _batch(rows: tuple[Any, Any], copies: int, device: Any, dtype: Any) -> tuple[Tensor | None, Tensor | None]:
    """Each prompt as often as pictures are wanted of it."""
    states, pooled = (None if part is None else part.repeat_interleave(copies, 0).to(device, dtype) for part in rows)
    return states, pooled


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
