"""Without this module a CLIP socket could not be protected: it makes the copy of a CLIP that carries a prefix.

The prefix enters where the host turns text into tokens, so that whatever encodes prompts with this CLIP, the host's
nodes and other extensions' alike, gets it. The original CLIP shares its tokenizer and its weights with its copies and
stays exactly as it was: the copy holds *views* of both, objects of a class of our own over the same state.

Tokens that reach the encoder by another way (from another CLIP, from a tokenizer within the tokenizer, made by hand)
and do not carry the prefix are refused, at every strength but 0: what this CLIP encodes is protected, or is an error.
The encoders within the encoder stay the host's own: other extensions patch them, and find them as they left them.
They are watched while they read a prompt: at a layer that the prefix was not learned at ("clip skip") it would not
protect, whoever has set it and however.

Strength between 0 and 1 blends conditionings: each chunk is encoded with the prefix and once more without it (the same
words in the same chunk), and the conditioning moves on the straight line between the two (see `blending`). Blending
vectors instead would have no end at "plain": a prefix of any values shifts the words by m positions.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any

from torch import Tensor

from ..prefix import (
    Frame,
    Prefix,
    PrefixMismatchError,
    blend,
    carries,
    eject,
    family_of,
    frame_of,
    inject_text,
    require_fit,
    require_layers,
    require_strength,
)
from ..prefix.layers import Layer, listed
from ..trainer.encoder_layers import Reading, judged_layers, usual_layers, usual_readings
from ..trainer.text_encoders import embedding_table, text_encoders, vectors_for

_ORIGINAL = "anonymize_faces_original"


def protect(
    clip: Any, prefix: Prefix, strength: float, witness: Callable[[tuple[Any, ...]], None] | None = None
) -> Any:
    """A clone of the host's `CLIP` in which every prompt carries the prefix; one it carried before is replaced.

    Args:
        clip: the host's CLIP; stays as it is.
        prefix: must serve every text encoder of `clip`.
        strength: 0 (exactly the plain conditioning) to 1 (exactly the protected one).
        witness: called with what the host's encoder returns for each prompt, before anybody else gets it.

    Raises:
        PrefixMismatchError: the prefix does not fit the text encoders.
        AnonymizationError: strength out of range.
    """
    if clip is None:
        raise PrefixMismatchError(
            "There is no text encoder to protect: the checkpoint carries none, so load one with a CLIP loader and"
            " connect that."
        )
    require_strength(strength)
    protected = unprotect(clip)
    tokenizer, encoder = protected.tokenizer, protected.cond_stage_model
    encoders = text_encoders(encoder)
    tokenize = partial(protected.tokenize, return_word_ids=True)
    inject_text(tokenize, "", prefix.vectors, encoders)  # What would fail at every prompt is told here, at the node.
    require_fit(prefix.vectors, {key: embedding_table(part).embedding_dim for key, part in encoders.items()})
    if strength == 0.0:
        return protected
    vectors = vectors_for(encoders, prefix.vectors)
    tokenize_with_weights = partial(_tokenize, vectors, encoders.keys())
    frame = frame_of(tokenize, "a")
    usual = usual_readings(encoders)

    def judge(key: str, layer: Layer) -> None:
        require_layers(prefix.record, {key: layer}, usual_layers(usual), _layers_remedy)

    read = partial(_read, usual, judge)
    encode_token_weights = partial(_encode, vectors, encoders.keys(), frame, strength, witness, read)
    # What other extensions set on the copy's tokenizer must not reach the original; the encoder's state is the host's,
    # which goes on changing it.
    protected.tokenizer = _view(tokenizer, dict(vars(tokenizer)), tokenize_with_weights=tokenize_with_weights)
    protected.cond_stage_model = _view(encoder, vars(encoder), encode_token_weights=encode_token_weights)
    return protected


def unprotect(clip: Any) -> Any:
    """A clone of the host's `CLIP` without any prefix that `protect` gave it."""
    plain = clip.clone()
    plain.tokenizer = _original(clip.tokenizer)
    plain.cond_stage_model = _original(clip.cond_stage_model)
    return plain


def is_protected(clip: Any) -> bool:
    """Whether every prompt of this CLIP carries a prefix that `protect` gave it."""
    return hasattr(type(getattr(clip, "tokenizer", None)), _ORIGINAL)


def _tokenize(
    vectors: Mapping[str, Tensor],
    encoders: Collection[str],
    tokenize: Callable[..., Any],
    tokenizer: Any,
    text: str,
    return_word_ids: bool = False,
    **kwargs: Any,
) -> Any:
    # Word ids are always asked for: they tell which tokens the host would keep together.
    injected = inject_text(partial(tokenize, return_word_ids=True, **kwargs), text, vectors, encoders)
    if return_word_ids:
        return injected
    return {key: [[entry[:2] for entry in chunk] for chunk in chunks] for key, chunks in injected.items()}


def _encode(
    vectors: Mapping[str, Tensor],
    encoders: Collection[str],
    frame: Frame,
    strength: float,
    witness: Callable[[tuple[Any, ...]], None] | None,
    read: Callable[..., tuple[Any, ...]],
    encode: Callable[[Any], tuple[Any, ...]],
    stage: Any,
    tokens: Any,
) -> tuple[Any, ...]:
    if not carries(tokens, vectors, encoders):
        raise PrefixMismatchError(
            "Some of these tokens do not carry the prefix, so the picture would not be protected: encode the prompt"
            " with CLIP Text Encode, or connect the CLIP of Anonymize Faces wherever the prompt is read."
        )
    encoded = read(encode, stage, tokens)
    if strength < 1.0:
        encoded = blend(read(encode, stage, eject(tokens, vectors, frame, encoders)), encoded, strength)
    if witness is not None:
        witness(encoded)
    return encoded


def _read(
    usual: Mapping[str, Reading],
    judge: Callable[[str, Layer], None],
    encode: Callable[[Any], tuple[Any, ...]],
    stage: Any,
    tokens: Any,
) -> tuple[Any, ...]:
    """What the host makes of tokens, with its text encoders watched."""
    encoders = text_encoders(stage)
    with judged_layers(encoders, usual, judge) as read:
        encoded = encode(tokens)
    for key in encoders.keys() - read:
        if family_of(key).required:
            raise PrefixMismatchError(
                f"Text encoder '{key}' read the prompt unseen, so that nobody can say whether the prefix protects:"
                " connect the CLIP straight to Anonymize Faces, without nodes that replace text encoders."
            )
    return encoded


def _layers_remedy(layers: Sequence[int]) -> str:
    """What to do where the layer is another one than those."""
    if not layers:
        return "take CLIP Set Last Layer out"
    return f"set CLIP Set Last Layer to {listed([str(layer) for layer in layers], 'or')}"


def _view(original: Any, state: dict[str, Any], **methods: Callable[..., Any]) -> Any:
    """An object with the state given and the class of `original`, but for the methods given.

    Whoever looks at it, by attribute, `isinstance` or `state_dict`, finds what the original has. Each method gets the
    original's own first, bound to the view's state, then the view, then what it is called with. Copies of a view, deep
    ones too, are views of the same kind over their own state.
    """
    cls = type(original)
    replaced = {name: _method(cls, vars(original).get(name), name, method) for name, method in methods.items()}
    if not replaced.keys().isdisjoint(state):  # Another extension has replaced them on the very object: go through it.
        state = {name: value for name, value in state.items() if name not in replaced}
    return _with_state(
        type(cls.__name__, (cls,), {"__module__": cls.__module__, _ORIGINAL: original, **replaced}), state
    )


def _method(cls: type, own: Callable[..., Any] | None, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    def call(view: Any, *args: Any, **kwargs: Any) -> Any:
        beneath = own or partial(getattr(cls, name), _with_state(cls, vars(view)))
        return method(beneath, view, *args, **kwargs)

    return call


def _with_state(cls: type, state: dict[str, Any]) -> Any:
    made = object.__new__(cls)
    object.__setattr__(made, "__dict__", state)
    return made


def _original(part: Any) -> Any:
    """What lies under a view, or the object itself."""
    return getattr(type(part), _ORIGINAL, part)
