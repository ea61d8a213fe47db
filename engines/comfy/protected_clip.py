"""Makes the copy of a CLIP that carries a prefix.

The prefix enters where the host turns text into tokens, so that whatever encodes prompts with this CLIP, the host's
nodes and other extensions' alike, gets it. The original CLIP shares its tokenizer and its weights with its copies and
stays exactly as it was: the copy holds *views* of both, objects of a class of our own over the same state.

Tokens that reach the encoder by another way (from another CLIP, from a tokenizer within the tokenizer, made by hand)
and do not carry the prefix are refused, at every strength but 0: what this CLIP encodes is protected, or is an error.
So are those that reach the encoders within the encoder, or by `clip.patcher.model` (see `inner_encoders`); these stay
the host's own: other extensions patch them, and find them as they left them. Nothing is hidden from Python: code that
asks `vars` for an encoder's state, or the garbage collector for its objects, finds the plain ones, and a server that
enforces refuses what comes of them.
They are watched while they read a prompt: at a layer that the prefix was not learned at ("clip skip") it would not
protect, whoever has set it and however.

Strength between 0 and 1 blends conditionings: each chunk is encoded with the prefix and once more without it (the same
words in the same chunk), and the conditioning moves on the straight line between the two (see `blending`). Blending
vectors instead would have no end at "plain": a prefix of any values shifts the words by m positions.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from types import MappingProxyType
from typing import Any

from torch import Tensor

from ...prefix import (
    Frame,
    Prefix,
    PrefixMismatchError,
    blend,
    carries,
    eject,
    encoder_layout,
    frame_of,
    inject_text,
    key_of,
    require_fit,
    require_layers,
    require_strength,
    restore,
    without_word_ids,
)
from ...prefix.bypass import (
    ANY_EMBEDDINGS,
    READ_ELSEWHERE,
    AllowedEmbeddings,
    WatchedTokens,
    holds_other_vectors,
    read_elsewhere,
    require_all_prefixed,
)
from ...prefix.layers import Layer, listed
from ...prefix.meta_network import Parameters, is_conditional, with_open_gates
from .conditional_vectors import PromptsRead, encoders_of_words, gates_watched, require_made, vectors_made
from .encoder_layers import EncoderReading, judged_layers, usual_layers, usual_readings
from .inner_encoders import (
    MODULES,
    UNPROTECTED,
    as_taken_by_name,
    guard_patcher,
    guarded,
    is_reading_plain,
    reading_plain,
    release_patcher,
    shown,
)
from .text_encoders import embedding_width, text_encoders, vectors_for

EMBEDDINGS_REFUSED = (
    "This prompt uses an embedding (textual inversion) that this server does not draw, since one may draw a person"
    " whatever protects the words: leave out 'embedding:' and the name after it, or ask the server's operator to list"
    " it."
)

_ORIGINAL = "anonymize_faces_original"


def protect(
    clip: Any,
    prefix: Prefix,
    strength: float,
    witness: Callable[[tuple[Any, ...]], None] | None = None,
    embeddings: AllowedEmbeddings = ANY_EMBEDDINGS,
    told: Callable[[float, float], None] | None = None,
    strict: bool = False,
) -> Any:
    """A clone of the host's `CLIP` in which every prompt carries the prefix; one it carried before is replaced.

    Args:
        clip: the host's CLIP; stays as it is.
        prefix: must serve every text encoder of `clip`.
        strength: 0 (exactly the plain conditioning) to 1 (exactly the protected one).
        witness: called with what the host's encoder returns for each prompt, before anybody else gets it.
        embeddings: vectors of the user's own that prompts may hold.
        told: called, for each prompt that is read, with how far a conditional prefix acts on it at least and at most,
            see `conditional_vectors.PromptsRead`; never with another prefix, which acts on all alike.
        strict: whether words that are read by another way than through the prefix are an error. With a witness, and
            where not all embeddings are allowed, they always are.

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
    require_fit(prefix.vectors, {key: embedding_width(part) for key, part in encoders.items()})
    if strength == 0.0:
        return protected
    vectors = vectors_for(encoders, prefix.vectors)
    parameters = vectors_for(encoders, prefix.parameters)
    tokenize_with_weights = partial(_tokenize, vectors, encoders.keys())
    frame = frame_of(tokenize, "a")
    usual = usual_readings(encoders)

    def judge(key: str, layer: Layer) -> None:
        require_layers(prefix.record, {key: layer}, usual_layers(usual), _layers_remedy)

    read = partial(_read, usual, judge, parameters)
    told = told if is_conditional(parameters) else None
    read_open = partial(_read, usual, judge, with_open_gates(parameters))
    encode_token_weights = partial(_encode, vectors, encoders.keys(), frame, strength, witness, told, read, read_open)
    if strict or witness is not None or not embeddings.all:
        encode_token_weights = partial(_encode_strictly, vectors, embeddings, encode_token_weights)
    # What other extensions set on the copy's tokenizer must not reach the original; the encoder's state is the host's,
    # which goes on changing it.
    protected.tokenizer = _view(tokenizer, dict(vars(tokenizer)), tokenize_with_weights=tokenize_with_weights)
    protected.cond_stage_model = _view(
        encoder,
        vars(encoder),
        {"_modules": MODULES},
        encode_token_weights=encode_token_weights,
        __getattr__=partial(_part, parameters, usual, judge),
        __setattr__=lambda put, view, name, value: put(name, shown(value)),
        named_children=lambda found, view: as_taken_by_name(view, found()),
        named_modules=_modules,
    )
    guard_patcher(protected.patcher, protected.cond_stage_model)
    return protected


def unprotect(clip: Any) -> Any:
    """A clone of the host's `CLIP` without any prefix that `protect` gave it."""
    plain = clip.clone()
    plain.tokenizer = _original(clip.tokenizer)
    plain.cond_stage_model = _original(clip.cond_stage_model)
    release_patcher(plain.patcher)
    return plain


def read_beside(clip: Any) -> str | None:
    """What to say of a model that reads the words of prompts beside its text encoders; None if it does not."""
    stage = _original(clip.cond_stage_model)
    key = read_elsewhere(clip.tokenize(""), stage, text_encoders(stage))
    return None if key is None else READ_ELSEWHERE.format(key) + "."


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
    return without_word_ids(injected)


def _encode(
    vectors: Mapping[str, Tensor],
    encoders: Collection[str],
    frame: Frame,
    strength: float,
    witness: Callable[[tuple[Any, ...]], None] | None,
    told: Callable[[float, float], None] | None,
    read: Callable[..., tuple[tuple[Any, ...], PromptsRead | None]],
    read_open: Callable[..., tuple[tuple[Any, ...], PromptsRead | None]],
    encode: Callable[[Any], tuple[Any, ...]],
    stage: Any,
    tokens: Any,
) -> tuple[Any, ...]:
    if not carries(tokens, vectors, encoders):
        raise PrefixMismatchError(
            "Some of these tokens do not carry the prefix, so the picture would not be protected: encode the prompt"
            " with CLIP Text Encode, or connect the CLIP of Anonymize Faces wherever the prompt is read."
        )
    encoded, made = read(encode, stage, tokens)
    let_through = made is None or made.let_through
    if strength < 1.0 or not let_through:
        with reading_plain():
            plain, asked = read(encode, stage, (eject if let_through else restore)(tokens, vectors, frame, encoders))
        if not let_through and asked is not None and asked.let_through:
            # A name across the border of two chunks is whole in the host's own: the prefix acts on both.
            encoded, made = read_open(encode, stage, tokens)
            let_through = True
            if strength < 1.0:
                with reading_plain():
                    plain, _ = read(encode, stage, eject(tokens, vectors, frame, encoders))
        # What an encoder says of a prompt without a prefix may be shorter.
        encoded = blend(plain, encoded, strength) if let_through else plain
    if witness is not None:
        witness(encoded)
    if told is not None and made is not None:
        told(*made.acts)
    return encoded


def _encode_strictly(
    vectors: Mapping[str, Tensor],
    embeddings: AllowedEmbeddings,
    encode_protected: Callable[..., tuple[Any, ...]],
    encode: Callable[[Any], tuple[Any, ...]],
    stage: Any,
    tokens: Any,
) -> tuple[Any, ...]:
    """As `_encode`, where nothing but words with the prefix may reach a picture."""
    encoders = text_encoders(stage)
    prefixed = {key for key in encoders if key in vectors}

    def encode_watched(tokens: Any) -> tuple[Any, ...]:
        if not embeddings.all and holds_other_vectors(tokens, vectors, embeddings):
            raise PrefixMismatchError(EMBEDDINGS_REFUSED)
        watched = WatchedTokens(tokens)
        encoded = encode(watched)
        require_all_prefixed(watched, stage, prefixed)
        return encoded

    return encode_protected(encode_watched, stage, tokens)


def _part(
    parameters: Parameters,
    usual: Mapping[str, EncoderReading],
    judge: Callable[[str, Layer], None],
    part_of: Callable[[str], Any],
    stage: Any,
    name: str,
) -> Any:
    """What a protected encoder has under a name: its text encoders read only what carries the prefix, as it does."""
    part, key = part_of(name), key_of(name)
    rows = parameters.get(key) if hasattr(part, "transformer") else None
    if rows is None:
        return part
    reading = partial(_reading, key, parameters, usual, judge)
    return guarded(part, rows, reading, made_while_reading=is_conditional(parameters))


@contextmanager
def _reading(
    key: str,
    parameters: Parameters,
    usual: Mapping[str, EncoderReading],
    judge: Callable[[str, Layer], None],
    encoder: Any,
) -> Iterator[None]:
    """Inside, a text encoder is watched, and vectors are made for what it reads."""
    with judged_layers({key: encoder}, usual, judge), vectors_made({key: encoder}, parameters) as made:
        yield
    if is_conditional(parameters) and not made and not is_reading_plain():
        raise PrefixMismatchError(UNPROTECTED)


def _modules(found: Callable[..., Any], view: Any, memo: Any = None, prefix: str = "", *rest: Any, **more: Any) -> Any:
    """What `torch.nn.Module.named_modules` gives of a protected encoder."""
    return as_taken_by_name(view, found(memo, prefix, *rest, **more), prefix)


def _read(
    usual: Mapping[str, EncoderReading],
    judge: Callable[[str, Layer], None],
    parameters: Parameters,
    encode: Callable[[Any], tuple[Any, ...]],
    stage: Any,
    tokens: Any,
) -> tuple[tuple[Any, ...], PromptsRead | None]:
    """What the host makes of tokens, with its text encoders watched and vectors made for what they read.

    And what was read so, if the prefix is a conditional one: another is always let through.
    """
    encoders = text_encoders(stage)
    of_words = encoders_of_words(tokens, parameters)
    watching = gates_watched if is_reading_plain() else vectors_made
    with judged_layers(encoders, usual, judge) as read, watching(encoders, parameters, of_words=of_words) as made:
        encoded = encode(tokens)
    if not is_reading_plain():
        require_made(made, {key: chunks for key, chunks in tokens.items() if key in encoders}, parameters)
    for key in encoders.keys() - read:
        nothing_to_read = key in tokens and not tokens[key]  # As where CLIP Text Encode (SD3) leaves CLIPs empty.
        if encoder_layout(key).required and not nothing_to_read:
            raise PrefixMismatchError(
                f"Text encoder '{key}' read the prompt unseen, so that nobody can say whether the prefix protects:"
                " connect the CLIP straight to Anonymize Faces, without nodes that replace text encoders."
            )
    return encoded, made if is_conditional(parameters) else None


def _layers_remedy(layers: Sequence[int]) -> str:
    """What to do where the layer is another one than those."""
    if not layers:
        return "take CLIP Set Last Layer out"
    return f"set CLIP Set Last Layer to {listed([str(layer) for layer in layers], 'or')}"


def _view(
    original: Any,
    state: dict[str, Any],
    attributes: Mapping[str, Any] = MappingProxyType({}),
    **methods: Callable[..., Any],
) -> Any:
    """An object with the state given and the class of `original`, but for attributes of the class and methods given.

    Whoever looks at it, by attribute, `isinstance` or `state_dict`, finds what the original has. Each method gets the
    original's own first, bound to the view's state, then the view, then what it is called with. Copies of a view, deep
    ones too, are views of the same kind over their own state.
    """
    cls = type(original)
    replaced = {name: _method(cls, vars(original).get(name), name, method) for name, method in methods.items()}
    if not replaced.keys().isdisjoint(state):  # Another extension has replaced them on the very object: go through it.
        state = {name: value for name, value in state.items() if name not in replaced}
    own = {"__module__": cls.__module__, _ORIGINAL: original, **attributes}
    return _with_state(type(cls.__name__, (cls,), own | replaced), state)


def _method(cls: type, own: Callable[..., Any] | None, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    def call(view: Any, *args: Any, **kwargs: Any) -> Any:
        beneath = own or partial(getattr(cls, name), _with_state(cls, vars(view)))
        return method(beneath, view, *args, **kwargs)

    return call


def _with_state(cls: type, state: dict[str, Any]) -> Any:
    made: Any = object.__new__(cls)
    object.__setattr__(made, "__dict__", state)
    return made


def _original(part: Any) -> Any:
    """What lies under a view, or the object itself."""
    return getattr(type(part), _ORIGINAL, part)
