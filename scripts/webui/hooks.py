"""Hooks into the host where requests come in, and where pictures begin.

An exception in a script's own callbacks is printed by the host, and the picture is drawn all the same. So nothing is
done in callbacks. The functions here are the host's own, wrapped: what they raise ends the request, and the user reads
it.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

from .encoders import encoders_of
from .infotext import note
from .protection import PromptGuard, RequestedProtection
from .requested_protection import requested_protection, require_arguments

KEY = "anonymize_faces"
"""Our name in the host's register of replaced functions."""


def patch(owner: Any, name: str, make: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    """Replaces a function of a module or class of the host by what `make` makes of it; once, however often called."""
    from modules import patches

    if patches.original(KEY, owner, name) is None:
        plain = getattr(owner, name)
        patches.patch(KEY, owner, name, functools.wraps(plain)(make(plain)))


def install_hooks(guard: PromptGuard) -> None:
    """Lets requests come through the guard.

    Raises:
        ImportError, AttributeError: this is neither Forge nor Automatic1111 as we know them.
    """
    from modules import processing, scripts

    patch(scripts.ScriptRunner, "run", functools.partial(_run, guard))
    patch(processing, "process_images_inner", functools.partial(_process_images_inner, guard))
    patch(processing.StableDiffusionProcessing, "cached_params", functools.partial(_cached_params, guard))
    patch(processing.StableDiffusionProcessing, "get_conds_with_caching", functools.partial(_get_conds, guard))
    for kind in (processing.StableDiffusionProcessingTxt2Img, processing.StableDiffusionProcessingImg2Img):
        patch(kind, "sample", functools.partial(_sample, guard))


def install_api_hook(*_: Any) -> None:
    """Lets requests of the host's API, if it has been started with one, be looked at."""
    if "modules.api.api" in sys.modules:
        patch(sys.modules["modules.api.api"].Api, "init_script_args", _init_script_args)


def _requested(guard: PromptGuard, p: Any) -> RequestedProtection:
    """What a request asks for, where anybody may ask."""
    return requested_protection(p) if guard.enforcement is None else RequestedProtection()


def _run(guard: PromptGuard, plain: Callable[..., Any]) -> Callable[..., Any]:
    """Scripts that draw more than one picture, maybe by requests of their own that know nothing of the panel."""

    def run(runner: Any, p: Any, *args: Any, **kwargs: Any) -> Any:
        with guard.scope(_requested(guard, p)):
            return plain(runner, p, *args, **kwargs)

    return run


def _process_images_inner(guard: PromptGuard, plain: Callable[..., Any]) -> Callable[..., Any]:
    """Every request, also those that extensions make within another."""

    def process_images_inner(p: Any, *args: Any, **kwargs: Any) -> Any:
        with guard.scope(_requested(guard, p)) as protection:
            note(p.extra_generation_params, protection)
            return plain(p, *args, **kwargs)

    return process_images_inner


def _cached_params(guard: PromptGuard, plain: Callable[..., Any]) -> Callable[..., Any]:
    """What a conditioning is kept under, for all passes and requests: another prefix makes it another one.

    It is asked for each conditioning, with the checkpoint that is to read the prompt, which can change on the way.
    """

    def cached_params(p: Any, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        params = plain(p, *args, **kwargs)
        protection = guard.current()
        if protection is None:
            return params
        protection.require_model(p.sd_model)
        return (*params, guard.kept_under(protection))

    return cached_params


def _get_conds(guard: PromptGuard, plain: Callable[..., Any]) -> Callable[..., Any]:
    """Where prompts become what pictures are drawn from, or what was kept of them."""

    def get_conds_with_caching(p: Any, *args: Any, **kwargs: Any) -> Any:
        return guard.made(lambda: plain(p, *args, **kwargs), lambda: encoders_of(p.sd_model))

    return get_conds_with_caching


def _sample(guard: PromptGuard, plain: Callable[..., Any]) -> Callable[..., Any]:
    """Where noise becomes a picture: the last moment to refuse."""

    def sample(p: Any, *args: Any, **kwargs: Any) -> Any:
        given = [kwargs.get(name) for name in ("conditioning", "unconditional_conditioning")]
        guard.require_noted([getattr(p, "c", None), getattr(p, "uc", None), *args[:2], *given])
        return plain(p, *args, **kwargs)

    return sample


def _init_script_args(plain: Callable[..., Any]) -> Callable[..., Any]:
    """The host takes its defaults, off for us, if a request names the panel and gives no values for it."""

    def init_script_args(api: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
        require_arguments(request.alwayson_scripts)
        return plain(api, request, *args, **kwargs)

    return init_script_args
