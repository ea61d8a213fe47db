"""Chooses the layers of the text encoders that a prefix is learned at ("clip skip"), and reads them in ComfyUI.

People set clip skip where a CLIP of SD1 reads the prompt alone: its checkpoints are trained, and used, with the last
layer or with the last but one. So a prefix for those is learned at both. The encoders of SD2, SDXL, SD3 and Flux are
read at one layer (the CLIPs of the first three at the last but one already, T5 at its last), which hardly anybody
changes: learning at another too would take its share of the steps away from the one that everybody uses.

If the artist's own CLIP is set to a layer, the prefix is learned at that one too, and pictures are drawn with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from ...prefix import encoder_layout
from ...prefix.layers import Layer as EffectiveLayer
from ..denoiser import Layer
from .encoder_layers import current_layers, usual_layers, usual_readings

USUAL: Layer = None
LAST_BUT_ONE = -2
OPTIONS = ("layer", "layer_idx", "return_projected_pooled")
"""What the host sets on an encoder to have it read at a layer."""


def candidates(encoders: Sequence[str], own: Layer = USUAL) -> tuple[Layer, ...]:
    """The layers that people use, the artist's own first; two of them may be the same for an encoder.

    Args:
        encoders: keys of the text encoders.
        own: the layer that the artist has set.
    """
    people = (USUAL, LAST_BUT_ONE) if list(encoders) == ["l"] else (USUAL,)
    return tuple(dict.fromkeys((own, *people)))


def layers_to_learn(
    clip: Any, encoders: Mapping[str, Any]
) -> tuple[dict[Layer, dict[str, EffectiveLayer]], dict[str, EffectiveLayer]]:
    """The layers of `Denoiser.layers`, each with the effective layers of all encoders there; and their usual ones.

    Args:
        clip: the host's CLIP.
        encoders: its text encoders, see `text_encoders`.
    """
    learned = {key: part for key, part in encoders.items() if encoder_layout(key).required}
    usual = usual_readings(learned)
    chosen: dict[tuple[Any, ...], Layer] = {}
    found: dict[Layer, dict[str, EffectiveLayer]] = {}
    for layer in candidates(list(encoders), clip.layer_idx):
        with read_at(clip.cond_stage_model, encoders, layer):
            read = current_layers(learned, usual)
        if chosen.setdefault(tuple(read.values()), layer) == layer:
            found[layer] = read
    return found, usual_layers(usual)


def recorded(
    read: Sequence[Mapping[str, EffectiveLayer]], usual: Mapping[str, EffectiveLayer]
) -> dict[str, tuple[int, ...]]:
    """The layers for the record, of encoders that were not read at their usual layer alone.

    Args:
        read: the effective layers of all encoders, for each layer that was learned at.
        usual: their usual ones.
    """
    layers = {key: {reading[key] for reading in read} for key in usual}
    others = {key: found for key, found in layers.items() if found != {usual[key]}}
    counted = {key: [n for n in found if isinstance(n, int)] for key, found in others.items()}
    return {key: tuple(sorted(layers)) for key, layers in counted.items() if len(layers) == len(others[key])}


@contextmanager
def read_at(stage: Any, encoders: Mapping[str, Any], layer: Layer) -> Iterator[None]:
    """Inside, the host's text encoders are read at this layer; afterwards their options are as they were.

    Args:
        stage: the `cond_stage_model` of the host's CLIP.
        encoders: the text encoders in it.
        layer: see `Layer`.
    """
    before = [
        (part, name, getattr(part, name)) for part in encoders.values() for name in OPTIONS if hasattr(part, name)
    ]
    try:
        stage.reset_clip_options()
        if layer is not None:
            stage.set_clip_options({"layer": layer})
        yield
    finally:
        for part, name, value in before:
            setattr(part, name, value)
