"""Reads at which layers the text encoders of a host's CLIP are read, usually and while they encode ("clip skip").

Nodes set the layer in several ways (ComfyUI's CLIP Set Last Layer, loaders with a configuration, options of other
extensions), and some of them set it where it changes nothing. So what counts is what the host asks of the network
inside the encoder, at the moment it does: see `judged_layers`.
"""

from __future__ import annotations

import contextlib
import numbers
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from ...prefix.errors import PrefixMismatchError
from ...prefix.layers import LAST, Layer

_LAST = "last"


class EncoderReading(NamedTuple):
    """What of its network an encoder of the host returns.

    Attributes:
        layer: -1 for the last one; what the host calls it where that is no number.
        normalized: whether the network's last norm is applied to the states.
        projected: whether the pooled output comes out of the projection.
    """

    layer: Layer
    normalized: bool
    projected: bool


def usual_readings(encoders: Mapping[str, Any]) -> dict[str, EncoderReading]:
    """How encoders are read when nobody asks for anything else, by their keys; see `text_encoders`.

    Raises:
        PrefixMismatchError: one does not say, as the host's own do.
    """
    found = {}
    for key, encoder in encoders.items():
        try:
            layer, index, projected = encoder.options_default
            found[key] = _reading(encoder, layer, index, encoder.layer_norm_hidden_state, projected)
        except (AttributeError, TypeError, ValueError) as error:
            raise PrefixMismatchError(
                f"Text encoder '{key}' ({type(encoder).__name__}) does not say at which layer it is read, so that"
                " nobody can say whether the prefix protects: load it with one of ComfyUI's own loaders."
            ) from error
    return found


def usual_layers(usual: Mapping[str, EncoderReading]) -> dict[str, Layer]:
    """The layers of readings, as `prefix.layers` takes them."""
    return {key: reading.layer for key, reading in usual.items()}


def current_layers(encoders: Mapping[str, Any], usual: Mapping[str, EncoderReading]) -> dict[str, Layer]:
    """The layers that the encoders would be read at with the options that are set now."""
    return {
        key: _told(
            _reading(
                encoder,
                encoder.layer,
                encoder.layer_idx,
                encoder.layer_norm_hidden_state,
                encoder.return_projected_pooled,
            ),
            usual[key],
        )
        for key, encoder in encoders.items()
    }


@contextlib.contextmanager
def judged_layers(
    encoders: Mapping[str, Any], usual: Mapping[str, EncoderReading], judge: Callable[[str, Layer], None]
) -> Iterator[set[str]]:
    """Inside, each time the network of an encoder is run, `judge` gets the encoder's key and the layer it is read at.

    What `judge` raises keeps the network from running and comes through. Afterwards the encoders are as before. Gives
    the keys of the encoders that were read, so far.

    Raises:
        PrefixMismatchError: an encoder's network cannot be watched.
    """
    read: set[str] = set()

    def watch(key: str) -> Callable[..., None]:
        def look(network: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            for reading in _readings(encoders[key], kwargs):
                judge(key, _told(reading, usual[key]))
            read.add(key)

        return look

    with contextlib.ExitStack() as hooks:
        for key, encoder in encoders.items():
            if not hasattr(encoder.transformer, "register_forward_pre_hook"):
                raise PrefixMismatchError(
                    f"Text encoder '{key}' cannot be watched while it reads a prompt, so that nobody can say whether"
                    " the prefix protects: load it with one of ComfyUI's own loaders."
                )
            hook = encoder.transformer.register_forward_pre_hook(watch(key), with_kwargs=True)
            hooks.callback(hook.remove)
        yield read


def _readings(encoder: Any, asked: Mapping[str, Any]) -> Iterator[EncoderReading]:
    """What an encoder may return of a network that is asked for this; more than one where that cannot be told apart.

    Beside the last states a network returns those of the one layer that it is asked for, or None.
    """
    index, projected = asked.get("intermediate_output"), encoder.return_projected_pooled
    normalized = asked.get("final_layer_norm_intermediate", encoder.layer_norm_hidden_state)
    if encoder.layer == _LAST or index is None:
        yield _reading(encoder, _LAST, None, normalized, projected)
    if index is not None:
        yield _reading(encoder, "hidden", index, normalized, projected)


def _reading(encoder: Any, layer: Any, index: Any, normalized: bool, projected: bool) -> EncoderReading:
    """A reading from the host's names for it."""
    if isinstance(layer, list | tuple):  # Several of them, in place of a name.
        index, layer = layer, "hidden"
    if layer == _LAST:
        return EncoderReading(LAST, True, bool(projected))
    if isinstance(index, list | tuple):
        return EncoderReading(tuple(sorted(map(str, index))), bool(normalized), bool(projected))
    if layer == "all" or index == "all":
        return EncoderReading("all layers", bool(normalized), bool(projected))
    if not isinstance(index, numbers.Integral) or isinstance(index, bool):
        return EncoderReading(f"layer {index}", bool(normalized), bool(projected))
    return EncoderReading(
        int(index) if index < 0 else int(index) - encoder.num_layers, bool(normalized), bool(projected)
    )


def _told(reading: EncoderReading, usual: EncoderReading) -> Layer:
    """The layer, or a description that no prefix was learned at if more than the layer is unusual."""
    if reading.normalized != usual.normalized:
        return f"layer {reading.layer} {'with' if reading.normalized else 'without'} the last norm"
    if reading.projected != usual.projected:
        return f"layer {reading.layer} with the pooled output {'after' if reading.projected else 'before'} projection"
    return reading.layer
