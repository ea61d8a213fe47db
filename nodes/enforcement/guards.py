"""Defines the nodes that look at what really comes over a wire where a prefix is enforced.

A guard protects each CLIP that passes it, and lets conditioning pass that a protected CLIP made: the *ledger* knows the
very tensors that protected encoders returned, and those that the host's nodes, which got nothing else, derived from
them. Conditioning from anywhere else (loaded, or made with a text encoder of a node's own) is not in it and is refused.
These nodes are there only where a server enforces; prompts get them from `rewriting`, not from artists.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from weakref import WeakValueDictionary

import comfy.sd
import torch
from comfy_api.v0_0_2 import io

from ...engines.comfy.face_blending import PLAIN
from ...engines.comfy.protected_clip import protect, read_beside
from ...engines.comfy.text_encoders import tokenized_keys
from ...prefix import AnonymizationError, require_family
from ...prefix.enforced_setting import Enforcement
from .rewriting import GUARD, GUARD_OF_TYPE

MOST_DEPTH = 8
_NOT_TEXT = frozenset(
    "mask concat_latent_image concat_mask noise_concat reference_latents guiding_frame_index keyframe_idxs"
    " camera_conditions control_video vace_frames vace_mask denoise_mask".split()
)
"""What conditioning may carry beside text, by its key."""


class Ledger:
    """The tensors that protected encoders made, or that were derived from nothing else; holds none of them.

    What Anonymize Face Region draws outside of faces, where an operator allows it, is known in its place alone: by
    itself it is not protected.
    """

    def __init__(self) -> None:
        self._known: WeakValueDictionary[int, torch.Tensor] = WeakValueDictionary()
        self._beside: WeakValueDictionary[int, torch.Tensor] = WeakValueDictionary()

    def enter(self, value: Any) -> None:
        """Takes down every tensor in a value."""
        for tensor, is_plain in _tensors(value):
            if tensor is not None:
                (self._beside if is_plain else self._known)[id(tensor)] = tensor

    def knows(self, value: Any) -> bool:
        """Whether every tensor in a value was taken down, in such a place."""
        return all(
            tensor is not None and (self._beside if is_plain else self._known).get(id(tensor)) is tensor
            for tensor, is_plain in _tensors(value, but=_NOT_TEXT)
        )


def _tensors(
    value: Any, is_plain: bool = False, but: frozenset[str] = frozenset()
) -> Iterator[tuple[torch.Tensor | None, bool]]:
    """Every tensor in a value, and whether it stands among what is drawn outside of faces.

    None for what nobody can look into: what the host itself makes of conditioning, in objects that hold tensors.

    Args:
        but: keys of tables that are passed over.
    """
    if isinstance(value, torch.Tensor):
        yield value, is_plain
    elif isinstance(value, dict):
        if "model_conds" in value:
            yield None, is_plain
        for key, part in value.items():
            if key not in but:
                yield from _tensors(part, is_plain or key == PLAIN, but)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _tensors(part, is_plain, but)


class Guarding:
    """What the guards share: what to protect with, and the ledger."""

    enforcement: Enforcement | None = None
    ledger = Ledger()


def vet(value: Any, derived: bool, only_text: bool, depth: int = 0) -> Any:
    """The value with every CLIP in it protected.

    Args:
        value: whatever a node put out.
        derived: it comes from a node that makes conditioning only of what guards have let in.
        only_text: it comes from a node that got text and of which nothing is known.

    Raises:
        AnonymizationError: there is something in it that cannot be protected, or is not known to be.
    """
    if isinstance(value, comfy.sd.CLIP):
        return _protected(value)
    if _is_conditioned(value):
        if derived:
            Guarding.ledger.enter(value)
        elif not Guarding.ledger.knows(value):
            raise AnonymizationError(
                "This conditioning was not made by a protected CLIP (it comes from a file, from a text encoder of a"
                " node's own, or was altered on the way): encode the prompt with CLIP Text Encode, or ask the server's"
                " operator to trust the node it comes from."
            )
        return value
    if isinstance(value, list | tuple | dict):
        if depth == MOST_DEPTH:
            raise _unseen(value)
        return _vet_parts(value, derived, only_text, depth)
    if _is_encoder(value) or (not derived and (isinstance(value, Iterator) or _hides_one(value))):
        raise _unseen(value)
    if only_text and not (value is None or isinstance(value, str | int | float | bool)):
        raise _unseen(value)
    return value


def _vet_parts(value: Any, derived: bool, only_text: bool, depth: int) -> Any:
    parts = list(value.values()) if isinstance(value, dict) else list(value)
    vetted = [vet(part, derived, only_text, depth + 1) for part in parts]
    if all(new is old for new, old in zip(vetted, parts, strict=True)):
        return value
    if type(value) is dict:
        return dict(zip(value, vetted, strict=True))
    if type(value) in (list, tuple):
        return type(value)(vetted)
    if isinstance(value, tuple) and hasattr(value, "_make"):
        return value._make(vetted)
    raise _unseen(value)


def _protected(clip: comfy.sd.CLIP) -> Any:
    enforcement = Guarding.enforcement
    if enforcement is None or enforcement.prefix is None:
        raise AnonymizationError((enforcement and enforcement.fault) or "This server has no prefix to protect with.")
    if (reason := read_beside(clip)) is not None:
        raise AnonymizationError(reason)
    protected = protect(clip, enforcement.prefix, 1.0, Guarding.ledger.enter, enforcement.embeddings)
    require_family(enforcement.prefix.record, tokenized_keys(clip))
    return protected


def _is_conditioned(value: Any) -> bool:
    """Whether it is one of those that the host's conditioning is a list of: a tensor, a table, and maybe more."""
    return (
        isinstance(value, list | tuple)
        and len(value) >= 2
        and (value[0] is None or isinstance(value[0], torch.Tensor))
        and isinstance(value[1], dict)
    )


def _is_encoder(value: Any) -> bool:
    """Whether it is a text encoder in another shape than the host's CLIP."""
    kind = type(value)
    return hasattr(kind, "encode_token_weights") or hasattr(kind, "tokenize_with_weights") or hasattr(kind, "tokenize")


def _hides_one(value: Any) -> bool:
    """Whether an object keeps a text encoder or conditioning in its attributes, where it cannot be replaced."""
    if isinstance(value, torch.Tensor | torch.nn.Module):
        return False
    kept = getattr(value, "__dict__", None)
    parts = kept.values() if isinstance(kept, dict) else ()
    parts = [*parts, *value] if isinstance(value, set | frozenset) else parts
    return any(isinstance(part, comfy.sd.CLIP) or _is_encoder(part) or _holds_conditioning(part) for part in parts)


def _holds_conditioning(value: Any) -> bool:
    return _is_conditioned(value) or (isinstance(value, list | tuple) and any(map(_is_conditioned, value)))


def _unseen(value: Any) -> AnonymizationError:
    return AnonymizationError(
        f"A node hands on a '{type(value).__name__}' that this server cannot look into, where it must anonymize every"
        " prompt: use ComfyUI's own nodes for that step, or ask the server's operator to trust the node it comes from."
    )


class _AnyType(str):
    """A type that every socket takes: the host asks whether it is unequal to the socket's."""

    def __ne__(self, other: object) -> bool:
        return False

    __hash__ = str.__hash__
    __eq__ = str.__eq__


def _guard(guard_id: str, socket: Any) -> type[io.ComfyNode]:
    class Guard(io.ComfyNode):
        """Lets pass what is protected; see the module."""

        @classmethod
        def define_schema(cls) -> io.Schema:
            return io.Schema(
                node_id=guard_id,
                display_name="Enforced Anonymization",
                category="anonymize",
                description="This server anonymizes every prompt. It puts this node into workflows by itself.",
                inputs=[
                    socket.Input("value", tooltip="What is looked at."),
                    io.Boolean.Input("derived", default=False, tooltip="Set by the server."),
                    io.Boolean.Input("only_text", default=True, tooltip="Set by the server."),
                ],
                outputs=[socket.Output(display_name="value", tooltip="The same, protected.")],
            )

        @classmethod
        def execute(cls, value: Any, derived: bool, only_text: bool) -> io.NodeOutput:
            return io.NodeOutput(vet(value, derived, only_text))

    Guard.__name__ = Guard.__qualname__ = guard_id
    return Guard


NODES = [
    _guard(GUARD_OF_TYPE["CLIP"], io.Clip),
    _guard(GUARD_OF_TYPE["CONDITIONING"], io.Conditioning),
    _guard(GUARD, io.Custom(_AnyType("*"))),
]
