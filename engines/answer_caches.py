"""Refuses what answers for a model out of what it answered before, where two pictures are drawn side by side.

Such a cache takes the next question for one about the next step. Asked about a protected and a plain picture in turn,
it gives the answer about one for the other. Whether the model is asked at all can be seen
(`engines.comfy.face_blending` does); caches within a model are known by their names alone.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ..prefix.errors import AnonymizationError

MARKS = ("cache", "broadcast", "tgate", "t-gate", "taylor", "spectrum", "sortblock")
"""What modules, classes or options of such caches are named with: TeaCache, MagCache, First Block Cache, DeepCache,
Pyramid Attention Broadcast, T-GATE, TaylorSeer, Spectrum."""

OPTIONS = ("rel_l1_thresh",)
"""Options of such caches that are named otherwise."""

ATTRIBUTES = ("cache_dic", "_is_cached", "teacache_state")
"""What such caches leave on a network, where it says something."""

HARMLESS = ("easycache", "lazycache", "nodes_easycache", "animate2_cache")
"""ComfyUI's own: EasyCache, which keeps an answer for each prompt; LazyCache, which stands before or is seen; an option
of Wan Animate."""

LIBRARIES = ("comfy.", "torch.", "diffusers.models.", "transformers.")
"""Whose classes are what a network is made of."""

FOLLOWED = 3
"""How deep functions are followed into what they close over."""

_FOLDERS = re.compile(r"[/\\]")


def require_no_cache(names: Iterable[str], instead: str) -> None:
    """Refuses models on which there is a cache of answers that does not keep prompts apart.

    Args:
        names: of what is called around the model, see `around_model` and `around_network`.
        instead: what to do other than taking the cache out, as a sentence has it after "or".

    Raises:
        AnonymizationError: there is one.
    """
    for name in names:
        if name in OPTIONS or (any(mark in name.lower() for mark in MARKS) and name not in HARMLESS):
            raise AnonymizationError(
                f"'{name}' gives answers of earlier steps in place of the model's, so that faces would come out"
                f" unprotected: take it out, or {instead}."
            )


def around_model(model_options: Mapping[str, Any]) -> Iterator[str]:
    """The names of ComfyUI's options for a model, and of the modules of all that they have called."""
    options = model_options.get("transformer_options", {})
    yield from (name for name in options if isinstance(name, str))
    called: list[Any] = [
        each for value in model_options.values() for each in (value if isinstance(value, list) else [value])
    ]
    for wrappers_by_key in options.get("wrappers", {}).values():
        yield from (key for key in wrappers_by_key if isinstance(key, str))
        called += [wrapper for wrappers in wrappers_by_key.values() for wrapper in wrappers]
    called += [patch for patches in options.get("patches", {}).values() for patch in patches]
    called += [patch for patches in options.get("patches_replace", {}).values() for patch in patches.values()]
    for one in filter(callable, called):
        yield from _modules_of(one)


def around_network(network: Any) -> Iterator[str]:
    """The names of what is called in place of a network's parts, of parts of other makes, and of hooks of diffusers."""
    for part in network.modules():
        own = type(part)
        if not own.__module__.startswith(LIBRARIES):
            yield f"{_last(own.__module__)}.{own.__qualname__}"
        if (forward := vars(part).get("forward")) is not None:
            yield from _modules_of(forward)
        yield from (name for name in ATTRIBUTES if vars(part).get(name))
        hooks = getattr(getattr(part, "_diffusers_hook", None), "hooks", {})
        yield from (_last(type(hook).__module__) for hook in hooks.values())


def _modules_of(called: Any, depth: int = FOLLOWED) -> Iterator[str]:
    """The modules that something callable was written in, and what it wraps, holds on to or closes over."""
    if isinstance(called, functools.partial):
        called = called.func
    function = getattr(called, "__func__", called)
    written_in = getattr(function, "__globals__", {}).get("__name__") or type(called).__module__
    for module in {str(written_in), str(getattr(called, "__module__", None) or written_in)}:
        if not module.startswith(LIBRARIES):
            yield _last(module)
    if depth:
        held = [getattr(called, "__wrapped__", None), getattr(called, "__self__", None)]
        held += [_contents(cell) for cell in getattr(function, "__closure__", None) or ()]
        for other in held:
            if callable(other) and not isinstance(other, type):
                yield from _modules_of(other, depth - 1)


def _contents(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # Of a variable that was never set.
        return None


def _last(module: str) -> str:
    """Without the folders that somebody put it into: ComfyUI calls modules of nodes by their paths."""
    return _FOLDERS.split(module)[-1].removeprefix("comfy_extras.")
