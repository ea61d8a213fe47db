"""Guards the text encoders within a protected CLIP, for those that call them and not the CLIP.

Who asks a protected CLIP's encoder for one of the text encoders in it, or for the network in one of those, gets a
*view* of it: an object over the very state, of a class of our own, that reads only what carries the prefix. Weights,
hooks and settings are the host's; what is set on a view is set on what it shows. Tables of embeddings, projections and
the like, which read no prompt, come as they are. Lists of modules, torch's own table of them (`_modules`) and deep
copies hold views as well.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from ...prefix import PrefixMismatchError
from ...prefix.injection.tokens import is_row

UNPROTECTED = (
    "A node reads a prompt with a part of the text encoder, where it does not carry the prefix, so the picture would"
    " not be protected: encode the prompt with CLIP Text Encode, or connect the CLIP of Anonymize Faces wherever the"
    " prompt is read."
)

_SHOWN = "anonymize_faces_shown"
_HOSTS = ("comfy", "comfy_execution", "execution", "nodes")
_OURS = __name__.removesuffix("engines.comfy.inner_encoders")

_READING_PLAIN: ContextVar[bool] = ContextVar("reading_plain", default=False)

Check = Callable[..., bool]
"""Whether what a method is called with carries the prefix."""


def guarded(
    encoder: Any,
    rows: Tensor,
    reading: Callable[[Any], AbstractContextManager[Any]],
    made_while_reading: bool = False,
) -> Any:
    """A view of a text encoder, the host's `SDClipModel` or one like it, that reads only what carries the prefix.

    Args:
        encoder: the host's; stays as it is.
        rows: the prefix's vectors for it as its network wants them, `[m, d]`.
        reading: opened for the encoder, or a copy of it, while that reads; what is raised in it comes through.
        made_while_reading: whether `reading` puts others in the place of the vectors. Then the network within the
            encoder reads nothing by itself.
    """

    def carried(tokens: Any, *_: Any, **__: Any) -> bool:
        return all(_holds(list(chunk), rows) for chunk in tokens)

    def carried_in_pairs(pairs: Any, *_: Any, **__: Any) -> bool:
        return all(_holds([entry[0] for entry in chunk], rows) for chunk in pairs)

    checks = {"forward": carried, "encode": carried, "encode_token_weights": carried_in_pairs}
    checks = {name: check for name, check in checks.items() if hasattr(encoder, name)}
    inner = rows[:0] if made_while_reading else rows
    return _view(encoder, checks, inner, lambda copied: guarded(copied, rows, reading, made_while_reading), reading)


@contextmanager
def reading_plain() -> Iterator[None]:
    """Inside, text encoders may read without the prefix: for the plain side of a strength below 1, and nothing else."""
    token = _READING_PLAIN.set(True)
    try:
        yield
    finally:
        _READING_PLAIN.reset(token)


def is_reading_plain() -> bool:
    """Whether this runs inside `reading_plain`."""
    return _READING_PLAIN.get()


def guard_patcher(patcher: Any, stage: Any) -> None:
    """Lets a patcher hand the protected encoder to other extensions, in the place of the plain one that it loads.

    The host and this extension still get the plain one: they compare, move and patch it.

    Args:
        patcher: the host's `ModelPatcher`, of a CLIP that nobody else has.
        stage: the protected encoder, a view of the patcher's model.
    """
    cls = type(patcher)

    def model(self: Any) -> Any:
        own = vars(self)["model"]
        caller = sys._getframe(1).f_globals.get("__name__", "")
        return own if caller.partition(".")[0] in _HOSTS or caller.startswith(_OURS) or own is not plain else stage

    plain = vars(patcher)["model"]
    keep = property(model, lambda self, value: vars(self).__setitem__("model", plain if value is stage else value))
    patcher.__class__ = type(cls.__name__, (cls,), {"__module__": cls.__module__, _SHOWN: cls, "model": keep})


def release_patcher(patcher: Any) -> None:
    """Undoes `guard_patcher`, also for a copy."""
    patcher.__class__ = getattr(type(patcher), _SHOWN, type(patcher))


def shown(value: Any) -> Any:
    """What a view shows, or the value itself."""
    return getattr(type(value), _SHOWN, value)


def as_taken_by_name(view: Any, modules: Iterable[tuple[str, Any]], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Modules by their names in a view, each as whoever takes it out of the view by that name gets it.

    Args:
        view: of a module, or of one with text encoders in it.
        modules: the host's own.
        prefix: what their names begin with.
    """
    for name, _ in modules:
        path = name[len(prefix) :].strip(".")
        yield name, reduce(getattr, path.split("."), view) if path else view


class ModuleTable(MutableMapping[str, Any]):
    """Torch's table of a module's parts, each as whoever takes it out of a view by its name gets it."""

    def __init__(self, own: MutableMapping[str, Any], take: Callable[[str], Any]) -> None:
        """Stands for `own`, the host's, which gets what is set; `take` gives a part by its name."""
        self._own = own
        self._take = take

    def __getitem__(self, name: str) -> Any:
        return None if self._own[name] is None else self._take(name)

    def __setitem__(self, name: str, module: Any) -> None:
        self._own[name] = shown(module)

    def __delitem__(self, name: str) -> None:
        del self._own[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._own)

    def __len__(self) -> int:
        return len(self._own)

    def copy(self) -> dict[str, Any]:
        """As of a dict."""
        return dict(self)


MODULES = property(
    lambda view: ModuleTable(vars(view)["_modules"], lambda name: getattr(view, name)),
    lambda view, table: vars(view).__setitem__("_modules", table),
)
"""What a class of views has for `_modules`. Only `vars` of a view gives the host's own."""


def _network(module: Any, rows: Tensor) -> Any:
    """A view of what an encoder is made of; a part that has no parts comes as it is."""
    if not any(True for _ in module.children()):
        return module

    def carried(*args: Any, **kwargs: Any) -> bool:
        embeds = kwargs.get("embeds")
        return not any(argument is not None for argument in args[:1]) and _all_hold(embeds, rows)

    return _view(module, {"forward": carried}, rows, lambda copied: _network(copied, rows))


def _view(
    own: Any,
    checks: Mapping[str, Check],
    rows: Tensor,
    again: Callable[[Any], Any],
    reading: Callable[[Any], AbstractContextManager[Any]] = nullcontext,
) -> Any:
    """A view of what is checked by name; `again` makes one of a copy."""
    cls: Any = type(own)

    def checked(name: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if not _READING_PLAIN.get() and not _passes(checks[name], args, kwargs):
                raise PrefixMismatchError(UNPROTECTED)
            with reading(own):
                return getattr(own, name)(*args, **kwargs)

        vars(call)["guards"] = own
        return call

    class View(cls):
        _modules = MODULES

        def __getattribute__(self, name: str) -> Any:
            if name in checks:
                return checked(name)
            # Text that a model answers with is no conditioning: it has to be encoded yet.
            return getattr(own, name) if name == "generate" else super().__getattribute__(name)

        def __getattr__(self, name: str) -> Any:
            value = super().__getattr__(name)
            return _network(value, rows) if isinstance(value, torch.nn.Module) else value

        def __setattr__(self, name: str, value: Any) -> None:
            # Who puts back what was there before, puts back the host's own.
            if getattr(value, "guards", None) is own and name in checks:
                vars(own).pop(name, None)
            else:
                setattr(own, name, shown(value))

        def __delattr__(self, name: str) -> None:
            delattr(own, name)

        def __deepcopy__(self, memo: dict[int, Any]) -> Any:
            return again(copy.deepcopy(own, memo))

        def named_children(self) -> Iterator[tuple[str, Any]]:
            return as_taken_by_name(self, own.named_children())

        def named_modules(self, memo: Any = None, prefix: str = "", remove_duplicate: bool = True) -> Any:
            return as_taken_by_name(self, own.named_modules(memo, prefix, remove_duplicate), prefix)

    View.__name__, View.__qualname__, View.__module__ = cls.__name__, cls.__qualname__, cls.__module__
    setattr(View, _SHOWN, own)
    made = object.__new__(View)
    object.__setattr__(made, "__dict__", vars(own))
    return made


def _passes(check: Check, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    try:
        return check(*args, **kwargs)
    except Exception:  # What cannot be read is not protected.
        return False


def _holds(tokens: list[Any], rows: Tensor) -> bool:
    starts = range(len(tokens) - len(rows) + 1)
    return any(all(is_row(tokens[start + n], row) for n, row in enumerate(rows)) for start in starts)


def _all_hold(embeds: Any, rows: Tensor) -> bool:
    """Whether each row of a batch of embeddings `[b, n, d]` holds all of the prefix; never where there are no rows."""
    if not isinstance(embeds, Tensor) or embeds.ndim != 3 or not 0 < len(rows) <= embeds.shape[1]:
        return False
    windows = embeds.unfold(1, len(rows), 1).transpose(2, 3)
    return bool((windows == rows.to(embeds)).all(3).all(2).any(1).all())
