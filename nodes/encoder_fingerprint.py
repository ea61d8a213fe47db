"""Without this module Anonymize Faces would read a text encoder's weights at every run to know which one it is."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

from ..prefix import fingerprint
from ..prefix.errors import PrefixMismatchError
from ..prefix.weights import weights_of

_KNOWN: WeakKeyDictionary[Any, str] = WeakKeyDictionary()


def encoder_fingerprint(clip: Any) -> str:
    """`prefix.fingerprint` of the weights of the host's CLIP, before LoRAs; computed once for each model in memory.

    Empty for weights of a kind that cannot be looked into: not to know them is no reason to stop.
    """
    model = clip.patcher.model
    if model not in _KNOWN:
        try:
            # The host writes LoRAs into the weights for as long as they are loaded, and keeps what was there.
            kept = {name: backup.weight for name, backup in clip.patcher.backup.items()}
            _KNOWN[model] = fingerprint(weights_of(model) | kept)
        except (PrefixMismatchError, RuntimeError, TypeError, ValueError, AttributeError, LookupError):
            _KNOWN[model] = ""
    return _KNOWN[model]
