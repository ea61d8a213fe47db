"""Judges whether a text encoder is read at a layer that a prefix was learned at ("clip skip").

A prefix is learned on the states of a layer of its text encoder, usually the last but few; at another layer it does not
protect. Layers are told as *effective* ones, counted from the end of the network that the checkpoint was trained with:
-1 is the last (clip skip 1 in Automatic1111), -2 the last but one. Encoders that are read at several layers at once
have a description in place of a number, which can only be compared.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from .errors import PrefixMismatchError
from .value import PrefixRecord

Layer = int | str | tuple[str | int, ...]
"""An effective layer below zero, or what else an encoder can be read at."""

LAST = -1

OPEN_CLIP_H_LAYERS = 24

_TRAIN_ANEW = "train a prefix for that with Train Anonymization Prefix"


def layers_by_training(keys: Collection[str]) -> dict[str, Layer]:
    """The layers that the denoisers of a family were trained with, of encoders that Automatic1111, Forge and diffusers
    have.

    For hosts that read another one unasked (Forge reads the last one of SD3's CLIPs), or that do not say. Sources:
    ComfyUI's `comfy/sdxl_clip.py`, `sd3_clip.py`, `sd2_clip.py` and `flux.py`, diffusers' pipelines.

    Args:
        keys: of all encoders that the prefix has vectors for: SDXL's and SD3's CLIP-L is read at another than SD1's.
    """
    deeper = {"h", "g"} | ({"l"} if "g" in keys else set())
    return {key: -2 if key in deeper else LAST for key in keys}


def gives_pooled_alone(key: str, keys: Collection[str]) -> bool:
    """Whether the denoiser sees nothing of an encoder but its pooled output, which no layer changes: Flux' CLIP-L."""
    return key == "l" and set(keys) == {"l", "t5xxl"}


def layer_of(index: int, count: int, key: str) -> int:
    """The effective layer of states of a text model of transformers.

    Args:
        index: among the states after each layer, the embeddings first, as `hidden_states` counts them.
        count: number of layers that the text model has.
        key: of the encoder. SD2's has 24 layers, of which folders of diffusers leave out the last one.
    """
    layer = index if index < 0 else index - count - 1
    return layer - 1 if key == "h" and count != OPEN_CLIP_H_LAYERS else layer


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
        read: the layer that each encoder is about to be read at; of some of the checkpoint's encoders, or all.
        usual: the layer that each of the checkpoint's encoders is usually read at, see `allowed_layers`.
        remedy: what to set in this host ("set Clip skip to 1 or 2"), from the layers that all encoders could be read
            at, the last one first, which may be none.

    Raises:
        PrefixMismatchError: an encoder is read at another layer, or nobody can say at which.
    """
    allowed = allowed_layers(record, usual)
    for key, layer in read.items():
        learned = allowed.get(key, ())
        if layer not in learned:
            which = "the prompt" if len(usual) == 1 else f"text encoder '{key}'"
            advice = "" if remedy is None else f"{remedy(common_layers(allowed.values()))}, or "
            raise PrefixMismatchError(
                f"This prefix was learned at {told(learned)}, and here {which} is read at {told((layer,))}, where it"
                f" does not protect: {advice}{_TRAIN_ANEW}."
            )


def common_layers(allowed: Collection[Sequence[Layer]]) -> list[int]:
    """The layers that are among those of every encoder, the last one first."""
    sets = [{layer for layer in layers if isinstance(layer, int)} for layers in allowed]
    return sorted(set.intersection(*sets), reverse=True) if sets else []


def layers_note(record: PrefixRecord, usual: Mapping[str, Layer]) -> str:
    """At which clip skip the prefix holds, as a sentence."""
    allowed = list(allowed_layers(record, usual).values())
    numbers = common_layers(allowed)
    if numbers and all(set(layers) == set(numbers) for layers in allowed):
        return f"It holds at {told(numbers[::-1])}."
    if all(layer in layers for layer, layers in zip(usual.values(), allowed, strict=True)):
        return "It holds where clip skip is left as it is."
    return f"It holds at {told(numbers[::-1])} for all text encoders."


def told(layers: Sequence[Layer]) -> str:
    """Layers in ascending order as artists know them: "clip skip 1 and 2"."""
    numbers = [str(-layer) for layer in reversed(layers) if isinstance(layer, int) and layer < 0]
    if numbers and len(numbers) == len(layers):
        return f"clip skip {listed(numbers)}"
    return listed([_described(layer) for layer in layers]) or "no layer"


def listed(words: Sequence[str], last: str = "and") -> str:
    """Words as an enumeration: "a, b and c"."""
    return f" {last} ".join(part for part in (", ".join(words[:-1]), *words[-1:]) if part)


def _described(layer: Layer) -> str:
    return f"layers {', '.join(map(str, layer))}" if isinstance(layer, tuple) else str(layer)
