"""Refuses nodes that answer for the model out of what it answered before, where two pictures are drawn side by side.

Such a node takes the next question for one about the next step. Asked about a protected and a plain picture in turn, it
gives the answer about one for the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ...prefix.errors import AnonymizationError

MARK = "cache"
"""What the modules or the options of such nodes are named with: TeaCache, MagCache, First Block Cache."""

OPTIONS = ("rel_l1_thresh",)
"""Options of such nodes that are named otherwise."""

KEEP_PROMPTS_APART = ("easycache",)
"""Those that keep an answer for each prompt, which is right: the host's own."""

ANSWERED_BEFORE = (
    "Another node gave an answer of an earlier step in place of the model's, so that faces would come out unprotected:"
    " put LazyCache, or what does the same, before Anonymize Face Region, or take it out."
)


def require_no_cache(model_options: Mapping[str, Any]) -> None:
    """Refuses models on which there is a cache of answers that does not keep prompts apart.

    Args:
        model_options: of the host, as the sampler has them.

    Raises:
        AnonymizationError: there is one.
    """
    for name in _names(model_options):
        if (MARK in name.lower() and not any(own in name.lower() for own in KEEP_PROMPTS_APART)) or name in OPTIONS:
            raise AnonymizationError(
                f"'{name}' gives answers of earlier steps in place of the model's, so that faces would come out"
                " unprotected: take that node out, or use Anonymize Faces without Anonymize Face Region."
            )


def _names(model_options: Mapping[str, Any]) -> Iterator[str]:
    """Of options, and of the modules of what is called around the model."""
    options = model_options.get("transformer_options", {})
    yield from (name for name in options if isinstance(name, str))
    called = [model_options.get("model_function_wrapper")]
    for by_key in options.get("wrappers", {}).values():
        called += [wrapper for wrappers in by_key.values() for wrapper in wrappers]
    for wrapper in called:
        if wrapper is not None:
            yield str(getattr(wrapper, "__module__", None) or type(wrapper).__module__)
