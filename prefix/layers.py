"""Judges whether a text encoder is read at a layer that a prefix was learned at ("clip skip").

A prefix is learned on the states of a layer of its text encoder, usually the last but few; at another layer it does not
protect. Layers are told as *effective* ones, counted from the end of the encoder that the checkpoint was trained with:
-1 is the last (clip skip 1 in Automatic1111), -2 the last but one. Encoders that are read at several layers at once
have a description in place of a number, which can only be compared.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence

from .errors import PrefixMismatchError
from .value import PrefixRecord

Layer = int | Hashable
"""An effective layer below zero, or what else an encoder can be read at."""

TRAIN_ANEW = "train a prefix for that with Train Anonymization Prefix"


def allowed_layers(record: PrefixRecord, usual: Mapping[str, Layer]) -> dict[str, tuple[Layer, ...]]:
    """The layers that a prefix holds at, for each encoder of a checkpoint.

    Args:
        record: the prefix's.
        usual: the layer that each encoder of the checkpoint is read at when nobody asks for another. A prefix whose
            record tells no layers of an encoder was learned at this one.
    """
    return {key: tuple(record.layers.get(key, (layer,))) for key, layer in usual.items()}


def require_layers(
    record: PrefixRecord,
    read: Mapping[str, Layer],
    usual: Mapping[str, Layer],
    remedy: Callable[[Sequence[int]], str] | None = None,
) -> None:
    """Raises unless every encoder is read at a layer that the prefix was learned at.

    Args:
        record: the prefix's.
        read: the layer that each encoder is about to be read at.
        usual: as for `allowed_layers`; has the same keys.
        remedy: from the layers that would do, what to set in this host ("set Clip skip to 1 or 2").

    Raises:
        PrefixMismatchError: an encoder is read at another layer, or nobody can say at which.
    """
    allowed = allowed_layers(record, usual)
    for key, layer in read.items():
        learned = allowed.get(key, ())
        if layer in learned:
            continue
        numbers = [number for number in reversed(learned) if isinstance(number, int)]
        advice = f"{remedy(numbers)}, or " if remedy is not None and numbers else ""
        which = f"text encoder '{key}'" if len(read) > 1 else "the prompt"
        raise PrefixMismatchError(
            f"This prefix was learned at {told(learned)}, and here {which} is read at {told((layer,))}, where it does"
            f" not protect: {advice}{TRAIN_ANEW}."
        )


def layers_note(record: PrefixRecord, usual: Mapping[str, Layer]) -> str:
    """At which clip skip the prefix holds, as a sentence."""
    allowed = allowed_layers(record, usual)
    if len(set(allowed.values())) == 1:
        return f"It holds at {told(next(iter(allowed.values())))}."
    each = ", ".join(f"{told(layers)} ('{key}')" for key, layers in allowed.items())
    return f"It holds at {each}."


def told(layers: Sequence[Layer]) -> str:
    """Layers as artists know them: "clip skip 1 and 2"."""
    numbers = [str(-layer) for layer in reversed(layers) if isinstance(layer, int) and layer < 0]
    if not layers or len(numbers) < len(layers):
        return "layers of its own"
    return "clip skip " + listed(numbers)


def listed(words: Sequence[str], last: str = "and") -> str:
    """Words as an enumeration: "a, b and c"."""
    return f" {last} ".join(part for part in (", ".join(words[:-1]), *words[-1:]) if part)
