"""Refuses what answers for a model out of what it answered before, where two pictures are drawn side by side.

Such a cache takes the next question for one about the next step. Asked about a protected and a plain picture in turn,
it gives the answer about one for the other.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ..prefix.errors import AnonymizationError

MARKS = ("cache", "broadcast")
"""What the modules or the options of such caches are named with: TeaCache, MagCache, First Block Cache, DeepCache,
Pyramid Attention Broadcast."""

OPTIONS = ("rel_l1_thresh",)
"""Options of such caches that are named otherwise."""

KEEP_PROMPTS_APART = ("easycache", "nodes_easycache")
"""Option and module of ComfyUI's own, which keeps an answer for each prompt."""

PLACES = re.compile("custom_nodes|comfy_extras")
"""Folders behind which a module has the name that its author gave it; those before are where somebody put ComfyUI."""


def require_no_cache(names: Iterable[str], instead: str) -> None:
    """Refuses models on which there is a cache of answers that does not keep prompts apart.

    Args:
        names: of what is called around the model, see `around_model` and `around_network`.
        instead: what to do other than taking the cache out, as a sentence has it after "or".

    Raises:
        AnonymizationError: there is one.
    """
    for name in names:
        if name in OPTIONS or (any(mark in name.lower() for mark in MARKS) and name not in KEEP_PROMPTS_APART):
            raise AnonymizationError(
                f"'{name}' gives answers of earlier steps in place of the model's, so that faces would come out"
                f" unprotected: take it out, or {instead}."
            )


def around_model(model_options: Mapping[str, Any]) -> Iterator[str]:
    """The names of ComfyUI's options for a model, and of the modules of what is called around it."""
    options = model_options.get("transformer_options", {})
    yield from (name for name in options if isinstance(name, str))
    called = [model_options.get("model_function_wrapper")]
    for by_key in options.get("wrappers", {}).values():
        called += [wrapper for wrappers in by_key.values() for wrapper in wrappers]
    yield from (_module_of(wrapper) for wrapper in called if wrapper is not None)


def around_network(network: Any) -> Iterator[str]:
    """The names of the modules of what is called in place of a network's parts, and of diffusers' hooks on them."""
    for part in network.modules():
        if (forward := vars(part).get("forward")) is not None:
            yield _module_of(forward)
        hooks = getattr(getattr(part, "_diffusers_hook", None), "hooks", {})
        yield from (_module_of(type(hook)) for hook in hooks.values())


def _module_of(called: Any) -> str:
    name = str(getattr(called, "__module__", None) or type(called).__module__)
    return PLACES.split(name)[-1].strip("/\\.")
