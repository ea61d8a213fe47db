"""Without this module a CLIP socket could not be protected: it makes the copy of a CLIP that carries a prefix.

The prefix enters where the host turns text into tokens, so that whatever encodes prompts with this CLIP, the host's
nodes and other extensions' alike, gets it. The original CLIP shares its tokenizer and its weights with its copies and
stays exactly as it was: the copy holds *views* of both, objects of a class of our own over the very same state.

Strength between 0 and 1 blends conditionings: each chunk is encoded with the prefix and once more without it (the same
words in the same chunk), and the conditioning moves on the straight line between the two (see `blending`). Blending
vectors instead would have no end at "plain": a prefix of any values shifts the words by m positions. A chunk whose
tokens no longer carry the prefix, because somebody rebuilt them, is encoded as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any

from torch import Tensor

from ..prefix import (
    AnonymizationError,
    Frame,
    Prefix,
    PrefixMismatchError,
    blend,
    eject,
    frame_of,
    inject_text,
    require_fit,
)
from ..trainer.text_encoders import embedding_table, text_encoders, vectors_for

_ORIGINAL = "anonymize_faces_original"


def protect(clip: Any, prefix: Prefix, strength: float) -> Any:
    """A clone of the host's `CLIP` in which every prompt carries the prefix; one it carried before is replaced.

    Args:
        clip: the host's CLIP; stays as it is.
        prefix: must serve every text encoder of `clip`.
        strength: 0 (exactly the plain conditioning) to 1 (exactly the protected one).

    Raises:
        PrefixMismatchError: the prefix does not fit the text encoders.
        AnonymizationError: strength out of range.
    """
    if clip is None:
        raise PrefixMismatchError(
            "There is no text encoder to protect: the checkpoint carries none, so load one with a CLIP loader and"
            " connect that."
        )
    if not 0.0 <= strength <= 1.0:
        raise AnonymizationError(f"Strength {strength} is out of range: choose 0 (plain) to 1 (protected).")
    protected = unprotect(clip)
    tokenizer, encoder = protected.tokenizer, protected.cond_stage_model
    encoders = text_encoders(encoder)
    tokenize = partial(protected.tokenize, return_word_ids=True)
    inject_text(tokenize, "", prefix.vectors, encoders)  # What would fail at every prompt is told here, at the node.
    require_fit(prefix.vectors, {key: embedding_table(part).embedding_dim for key, part in encoders.items()})
    if strength == 0.0:
        return protected
    vectors = vectors_for(encoders, prefix.vectors)
    tokenize_with_weights = _protected_tokenize(tokenizer, vectors, encoders.keys())
    if strength < 1.0:
        frame = frame_of(tokenize, "a")
        blended = _blended_encode(encoder, vectors, frame, encoders.keys(), strength)
        protected.cond_stage_model = _view(encoder, encode_token_weights=blended)
    protected.tokenizer = _view(tokenizer, tokenize_with_weights=tokenize_with_weights)
    return protected


def unprotect(clip: Any) -> Any:
    """A clone of the host's `CLIP` without any prefix that `protect` gave it."""
    plain = clip.clone()
    plain.tokenizer = _original(clip.tokenizer)
    plain.cond_stage_model = _original(clip.cond_stage_model)
    return plain


def _protected_tokenize(tokenizer: Any, vectors: Mapping[str, Tensor], encoders: Collection[str]) -> Callable[..., Any]:
    def tokenize_with_weights(_view: Any, text: str, return_word_ids: bool = False, **kwargs: Any) -> Any:
        # Word ids are always asked for: they tell which tokens the host would keep together.
        tokenize = partial(tokenizer.tokenize_with_weights, return_word_ids=True, **kwargs)
        injected = inject_text(tokenize, text, vectors, encoders)
        if return_word_ids:
            return injected
        return {key: [[entry[:2] for entry in chunk] for chunk in chunks] for key, chunks in injected.items()}

    return tokenize_with_weights


def _blended_encode(
    encoder: Any, vectors: Mapping[str, Tensor], frame: Frame, encoders: Collection[str], strength: float
) -> Callable[..., Any]:
    def encode_token_weights(_view: Any, tokens: Any) -> tuple[Any, ...]:
        protected = encoder.encode_token_weights(tokens)
        plain = encoder.encode_token_weights(eject(tokens, vectors, frame, encoders))
        return blend(plain, protected, strength)

    return encode_token_weights


def _view(original: Any, **methods: Callable[..., Any]) -> Any:
    """An object with the state of `original` (shared, not copied) and its class, but for the methods given.

    Whoever looks at it, by attribute, `isinstance` or `state_dict`, finds what the original has.
    """
    cls = type(original)
    view = object.__new__(type(cls.__name__, (cls,), {"__module__": cls.__module__, _ORIGINAL: original, **methods}))
    object.__setattr__(view, "__dict__", original.__dict__)
    return view


def _original(part: Any) -> Any:
    """What lies under a view, or the object itself."""
    return getattr(type(part), _ORIGINAL, part)
