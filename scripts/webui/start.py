"""Puts everything in its place when these hosts start: what the script calls."""

from __future__ import annotations

import os

from ...prefix import AnonymizationError
from ...prefix.enforced_setting import FILE, read_enforcement
from .encoding import protect_encoding
from .hooks import install_hooks, patch
from .protection import PromptGuard
from .requested_protection import embedding_folders, prefix_folders

_GUARDS: list[PromptGuard] = []


def start() -> PromptGuard:
    """The guard of this process, with everything of the host's led through it; called again at each reload.

    The operator's setting is read the first time, as in ComfyUI.

    Raises:
        AnonymizationError: this host is not known.
        SystemExit: this host is not known, and the operator wants every prompt anonymized.
    """
    if not _GUARDS:
        _GUARDS.append(PromptGuard(read_enforcement(os.environ, FILE, prefix_folders(), embedding_folders())))
    (guard,) = _GUARDS
    try:
        install_hooks(guard)
        protect_encoding(guard, patch)
    except (ImportError, AttributeError) as error:
        reason = (
            f"Anonymize Faces cannot protect anything in this host ({error}): it needs Forge, or Automatic1111 1.10 or"
            " newer."
        )
        if guard.enforcement is not None:
            raise SystemExit(reason) from error  # The host would go on without an extension that failed.
        raise AnonymizationError(reason) from error
    return guard
