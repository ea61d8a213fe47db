"""Refuses to let a denoiser work on prompts that carry no prefix, and a text encoder read them.

What a pipeline calls itself, and which methods it has, says nothing of what it does with a prompt. So its denoiser and
its text encoders look for themselves: a denoiser at what it is told, whoever tells it; a text encoder at who asks. They
do so where they are called, and where their `forward` is; whoever calls parts of a network, or the function of its
class, works past them.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import sys
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MethodType
from typing import Any
from weakref import WeakValueDictionary, ref

import torch
from torch import Tensor

from ...prefix.errors import PrefixMismatchError
from ...prefix.value import Prefix

KEPT = 1024
"""Prompts of one length whose embeddings are remembered, the latest ones."""

DIRECTIONS = 16
"""Random directions that each token of an embedding is remembered along, with its length: 68 bytes a token."""

TOLERANCE = 0.03
"""How far a token may lie from what is remembered, of its length: bfloat16 moves it by 0.002, other words by more."""

SEEN = 16
"""Tensors that were found to be remembered, and need not be looked at again as long as nobody writes into them."""

CONDITIONING = ("encoder_hidden_states", "pooled_projections")
"""Arguments of denoisers that say what a prompt says; SDXL's UNet has `text_embeds` among `added_cond_kwargs` too."""

LIBRARIES = ("torch.", "accelerate.", "peft.", "diffusers.hooks.", "diffusers.utils.", "diffusers.models.")
"""Modules that take a network's `forward` to call it on the network's behalf, or to put hooks around it."""

_READING: ContextVar[Any] = ContextVar("reading", default=None)
"""The witness whose pipeline is encoding prompts with its prefix right now."""

_WITNESSES: WeakValueDictionary[str, Witness] = WeakValueDictionary()
_LOCK = threading.Lock()


def witness_of(prefix: Prefix) -> Witness:
    """The one witness of all pipelines in this process that this prefix protects: they may share embeddings."""
    digest = hashlib.sha256(repr(sorted(prefix.record.layers.items())).encode())
    for key, rows in prefix.parameters.items():
        digest.update(f"{key}{tuple(rows.shape)}".encode())
        digest.update(rows.numpy().tobytes())
    name = digest.hexdigest()
    with _LOCK:
        found = _WITNESSES.get(name)
        if found is None:
            found = _WITNESSES[name] = Witness(prefix)
        return found


class Witness:
    """Knows the embeddings that were made with a prefix, whatever was done with whole prompts of them since.

    They are told by their values, so that they may be stacked, repeated, split, moved and cast.
    """

    def __init__(self, prefix: Prefix) -> None:
        self._prefix = prefix
        self._known: dict[Any, OrderedDict[bytes, Tensor]] = {}
        self._seen: dict[int, tuple[Any, int]] = {}
        self._lock = threading.Lock()

    def __reduce__(self) -> Any:
        return witness_of, (self._prefix,)

    def remember(self, *embeddings: Tensor | None) -> None:
        """Takes note of embeddings `[n, length, d]` or `[n, d]` that were just made with the prefix."""
        for tensor in embeddings:
            if tensor is None:
                continue
            rows = _sketch(tensor)
            with self._lock:
                known = self._known.setdefault(tuple(rows.shape[1:]) + (tensor.shape[-1],), OrderedDict())
                for row in rows.unbind(0):
                    known[row.numpy().tobytes()] = row
                while len(known) > KEPT:
                    known.popitem(last=False)

    def made(self, embeddings: Any) -> bool:
        """Whether all prompts in a batch of embeddings are remembered, or say nothing: zeros alone."""
        if not isinstance(embeddings, Tensor) or embeddings.ndim not in (2, 3):
            return False
        if self._was_seen(embeddings):
            return True
        rows = _sketch(embeddings)
        with self._lock:
            known = list(self._known.get(tuple(rows.shape[1:]) + (embeddings.shape[-1],), {}).values())
        found = all(not row.any() or any(_alike(row, other) for other in reversed(known)) for row in rows.unbind(0))
        if found:
            self._note(embeddings)
        return found

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Inside, text encoders may read: the prompts carry the prefix."""
        token = _READING.set(self)
        try:
            yield
        finally:
            _READING.reset(token)

    def guarded(self, name: str, part: Any) -> Any:
        """A part of a pipeline that looks for itself; parts that neither read nor are told anything stay as they are.

        It has everything in common with the part that came in, whatever happens to either, but the class: who calls
        the part that came in is not looked at.
        """
        if not isinstance(part, torch.nn.Module):
            return part
        plain = plain_part(part)
        inner = getattr(plain, "_orig_mod", plain)  # What torch.compile has made is called by its own class.
        if name.startswith("text_encoder"):
            return _alias(plain, self, name, _require_reading)
        if plain_part(inner) is not inner and type(inner)._anonymization_witness is self:
            return part
        forward = _signature(type(plain_part(inner)))
        return plain if forward is None else _alias(plain, self, name, functools.partial(_require_made, forward))

    def _was_seen(self, tensor: Tensor) -> bool:
        entry = self._seen.get(id(tensor))
        return entry is not None and entry[0]() is tensor and entry[1] == tensor._version

    def _note(self, tensor: Tensor) -> None:
        if tensor.is_inference():  # Nobody counts how often these are written into.
            return
        self._seen[id(tensor)] = ref(tensor), tensor._version
        while len(self._seen) > SEEN:
            self._seen.pop(next(iter(self._seen)), None)


def plain_part(part: Any) -> Any:
    """The part of a pipeline that a guarded one was made of; any other comes back as it is."""
    return getattr(type(part), "_anonymization_plain", part)


def _alias(plain: Any, witness: Witness, name: str, require: Any) -> Any:
    """The module under a class of its own that looks before it is called; all state is one and the same."""
    of: Any = type(plain)

    class PassesForPlain(type(of)):  # type: ignore[misc]
        """Libraries tell modules by whether their classes are equal, and by their names."""

        def __eq__(cls, other: Any) -> bool:
            return other is cls or other is of

        def __hash__(cls) -> int:
            return hash(of)

    class Guarded(of, metaclass=PassesForPlain):
        _anonymization_plain = plain
        _anonymization_witness = witness

        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            require(witness, name, self, args, kwargs)
            return super().__call__(*args, **kwargs)

        forward = _looked_at_first(of, lambda *told: require(witness, name, *told))

        def __reduce_ex__(self, protocol: Any) -> Any:
            return _guarded_again, (witness, name, plain)

    named_like(Guarded, of)
    alias = object.__new__(Guarded)
    object.__setattr__(alias, "__dict__", plain.__dict__)
    return alias


def _looked_at_first(of: Any, require: Any) -> property:
    """The attribute `forward` of an alias, for pipelines that call it past `__call__`; libraries get the module's own.

    They keep it, to wrap it by hooks, in the state that the alias and its plain part have in common.
    """

    def forward(alias: Any) -> Any:
        own = vars(alias).get("forward") or MethodType(of.forward, alias)
        if sys._getframe(1).f_globals.get("__name__", "").startswith(LIBRARIES):
            return own

        @functools.wraps(own)
        def looking(*args: Any, **kwargs: Any) -> Any:
            require(alias, args, kwargs)
            return own(*args, **kwargs)

        return looking

    return property(
        forward,
        lambda alias, value: vars(alias).__setitem__("forward", value),
        lambda alias: vars(alias).__delitem__("forward"),
    )


def named_like(made: Any, plain: Any) -> None:
    """Gives a class the names of the one that it was made of."""
    made.__name__, made.__qualname__, made.__module__ = plain.__name__, plain.__qualname__, plain.__module__
    made.__doc__ = plain.__doc__


def _signature(of: type) -> inspect.Signature | None:
    """What a denoiser's, a ControlNet's `forward` takes; None for modules that are told of no prompt."""
    for base in of.__mro__:
        forward = vars(base).get("forward")
        if forward is not None and "encoder_hidden_states" in inspect.signature(forward).parameters:
            return inspect.signature(forward)
    return None


def _guarded_again(witness: Witness, name: str, plain: Any) -> Any:
    return witness.guarded(name, plain)


@torch.compiler.disable
def _require_reading(witness: Witness, name: str, module: Any, args: Any, kwargs: Any) -> None:
    if _READING.get() is not witness:
        raise PrefixMismatchError(
            f"'{name}' belongs to a pipeline that is protected by a prefix, and something reads a prompt with it around"
            " that pipeline's 'encode_prompt', where no prefix can enter: use a pipeline of diffusers that leaves"
            " prompts to 'encode_prompt', or, if this one was made of a protected one's parts, protect it too, with"
            " 'protect_pipeline'."
        )


@torch.compiler.disable
def _require_made(
    forward: inspect.Signature, witness: Witness, name: str, module: Any, args: Any, kwargs: Mapping[str, Any]
) -> None:
    given = forward.bind_partial(module, *args, **kwargs).arguments
    given |= given.pop("kwargs", {})
    told = [given.get(argument) for argument in CONDITIONING]
    told.append((given.get("added_cond_kwargs") or {}).get("text_embeds"))
    if not all(embeddings is None or witness.made(embeddings) for embeddings in told):
        raise PrefixMismatchError(
            f"'{name}' belongs to a pipeline that is protected by a prefix, and was told of prompts that do not carry"
            " it, so nothing was drawn: give prompts as text to a pipeline that leaves them to 'encode_prompt', or as"
            " embeddings that the protected pipeline's 'encode_prompt' has made, and do not alter them."
        )


def _sketch(embeddings: Tensor) -> Tensor:
    """What is remembered of embeddings: `[n, length, DIRECTIONS + 1]` on the CPU, lengths last."""
    with torch.inference_mode(False), torch.no_grad():
        rows = embeddings.detach().float()
        rows = rows.unsqueeze(1) if rows.ndim == 2 else rows
        along = rows @ _directions(rows.shape[-1]).to(rows.device)
        return torch.cat([along, rows.norm(dim=-1, keepdim=True)], dim=-1).cpu().contiguous()


@functools.cache
def _directions(width: int) -> Tensor:
    """Random directions, the same every time, `[width, DIRECTIONS]`."""
    drawn = torch.randn(width, DIRECTIONS, generator=torch.Generator().manual_seed(width))
    return drawn / DIRECTIONS**0.5


def _alike(row: Tensor, other: Tensor) -> bool:
    """Whether two prompts' sketches are the same but for rounding, token by token."""
    apart = (row - other).norm(dim=-1)
    return bool((apart <= TOLERANCE * other[:, -1]).all())
