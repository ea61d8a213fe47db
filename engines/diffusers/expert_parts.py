"""Takes blocks out of UNets of diffusers, or narrows layers: what can go, a denoiser that learns without it, and a
pipeline that draws so.

Each works on a copy of the UNet that shares its weights: the pipeline that came in stays as it is, to the last bit.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ...prefix import fingerprint
from ...prefix.errors import ExpertsError
from ...runs.weights import is_plain, weights_of
from ..denoiser import LORA, Tuned
from ..options import AS_THE_HOST, AS_USUAL, Computing, Drawing
from ..pruning.deltas import whole_delta
from ..pruning.parts import EVERYWHERE, Prunable, leave_out
from ..pruning.units import (
    HiddenUnits,
    LeftOut,
    channel_groups,
    heads,
    hidden_numbers,
    narrowed_layers,
)
from .denoiser import DiffusersDenoiser
from .tuning import add_lora, lora_paused, sharing_copy, with_lora, without_lora
from .witness import plain_part

Pipeline = TypeVar("Pipeline")

UNET = "unet"
"""The pipeline's attribute that blocks are taken out of, and what names of its layers begin with in files of LoRA."""

STEPS_LEARNED = 1000
"""Of the schedule of betas that UNets learn with, where a scheduler does not tell."""

LEFT_OUT = "_anonymize_faces_left_out"
"""Attribute of a UNet that computes less: what it leaves out."""

LOADERS = ("load_lora_adapter", "load_attn_procs", "_load_ip_adapter_weights")
"""What loads LoRAs and IP-Adapters into a UNet."""

FUSED = "fused_projections"
"""Attribute of an attention whose queries, keys and values come of one layer."""

ADAPTER = ".lora_"
"""In names of weights that a LoRA adds to a network."""


class PrunableDenoiser(DiffusersDenoiser):
    """A `DiffusersDenoiser` whose LoRA is learned within the network that blocks are left out of.

    Args:
        pipeline, size, drawing, computing: as for `DiffusersDenoiser`.
    """

    def __init__(self, pipeline: Any, size: tuple[int, int], drawing: Drawing, computing: Computing) -> None:
        super().__init__(pipeline, size, drawing, computing)
        self._network = self._pipeline.unet = sharing_copy(self._network)

    @property
    def network(self) -> nn.Module:
        """The denoiser's own copy of the UNet."""
        return self._network

    def tuned(self, kind: str, rank: int, text_encoder: bool, seed: int, new_words: str = "") -> Tuned:
        """See `Denoiser`. While LoRA is learned, this denoiser predicts as before within `paused` alone."""
        if kind != LORA or text_encoder or new_words.strip():
            return super().tuned(kind, rank, text_encoder, seed, new_words)
        learned = with_lora(self._network, rank, seed)
        other = copy.copy(self)
        other._weights = tuple(learned.values())
        weights = {f"{UNET}.{name}": parameter for name, parameter in learned.items()}
        return Tuned(other, weights, lambda: without_lora(self._network), lambda: lora_paused(self._network))


def prunable(
    pipeline: Any, size: tuple[int, int], drawing: Drawing = AS_USUAL, computing: Computing = AS_THE_HOST
) -> Prunable:
    """What can be taken out of a pipeline.

    Args:
        pipeline, size, drawing, computing: as for `DiffusersDenoiser`.

    Raises:
        ExpertsError: nothing, in a pipeline of this kind, or a LoRA is loaded.
        TrainingError: as `DiffusersDenoiser`.
    """
    require_whole(pipeline)
    names = removable(unet_of(pipeline))
    if any(ADAPTER in name for name, _ in unet_of(pipeline).named_parameters()):
        raise ExpertsError(
            "A LoRA is loaded in this pipeline: call 'unload_lora_weights' before experts are learned, and load it in"
            " the pipeline of an expert."
        )
    denoiser = PrunableDenoiser(pipeline, size, drawing, computing)
    units = hidden_units(denoiser.network)
    return Prunable(denoiser, denoiser.network, names, denoiser_fingerprint(pipeline), units)


def unet_of(pipeline: Any) -> Any:
    """A pipeline's UNet; of one that is protected, the plain one.

    Raises:
        ExpertsError: it has none.
    """
    network = plain_part(getattr(pipeline, UNET, None))
    if type(network).__name__ != "UNet2DConditionModel":
        raise ExpertsError(
            f"Nobody has tried which blocks a {type(pipeline).__name__} can do without: experts are learned on"
            " pipelines of SD1, SD2 and SDXL."
        )
    return network


def removable(network: nn.Module) -> dict[str, str]:
    """Names of the blocks that a UNet can do without, in its order, each with what people call it.

    Transformers, and residual blocks whose width stays.

    Raises:
        ExpertsError: there are none.
    """
    found = {}
    for name, module in network.named_modules():
        kind = type(module).__name__
        if kind == "Transformer2DModel":
            found[name] = f"transformer {name}"
        elif kind == "ResnetBlock2D" and _is_residual(module):
            found[name] = f"residual block {name}"
    if not found:
        raise ExpertsError("This UNet has no block that it can do without: use one of SD1, SD2 or SDXL.")
    return found


def hidden_units(network: nn.Module) -> dict[str, HiddenUnits]:
    """What layers of a UNet can be narrowed by, by the name of the module that holds it."""
    found: dict[str, HiddenUnits] = {}
    module: Any
    for name, module in network.named_modules():
        kind: str = type(module).__name__
        if kind == "Attention" and name.endswith((".attn1", ".attn2")) and not getattr(module, FUSED, False):
            found[name] = heads(name, module.heads)
        elif kind == "FeedForward" and type(module.net[0]).__name__ == "GEGLU":
            found[name] = hidden_numbers(name, module.net[2].in_features)
        elif kind == "ResnetBlock2D" and module.time_embedding_norm == "default" and module.time_emb_proj is not None:
            found[name] = channel_groups(name, ("conv1", "time_emb_proj"), "norm2", "conv2", network)
    return found


def denoiser_fingerprint(pipeline: Any) -> str:
    """`prefix.fingerprint` of a pipeline's UNet, before LoRAs that are loaded."""
    weights = weights_of(unet_of(pipeline))
    return fingerprint({name.replace(".base_layer.", "."): w for name, w in weights.items() if ADAPTER not in name})


def narrowed_pipeline(
    pipeline: Pipeline, left_out: LeftOut, delta: Mapping[str, Tensor], whole_until: float = 0.0
) -> Pipeline:
    """A pipeline that computes less and with a LoRA, protected if the one that came in is.

    It has all weights in common with that one but those which the LoRA changes, and those of layers that are narrowed.

    Args:
        left_out: names of blocks, some of `removable`, and what stays of some of `hidden_units`.
        delta: LoRA as `engines.diffusers.tuning.lora_of` has it, after `narrowed_delta`; may be empty.
        whole_until: time t up to which the pipeline computes as it came in, as `Denoiser` counts times.

    Raises:
        ExpertsError: the pipeline is an expert already, has not those blocks, or its UNet is elsewhere; a LoRA is
            loaded in layers that are narrowed.
    """
    require_whole(pipeline)
    plain = unet_of(pipeline)
    units = hidden_units(plain)
    if left_out.kept and (_takes_pictures(plain) or any(ADAPTER in name for name, _ in plain.named_parameters())):
        raise ExpertsError(
            "A LoRA or an IP-Adapter is loaded in this pipeline, and an expert with narrower layers cannot take one:"
            " call 'unload_lora_weights' or 'unload_ip_adapter' before."
        )
    if not (set(left_out.blocks) <= set(removable(plain)) and left_out.is_of(units)):
        raise ExpertsError(
            "This pipeline lacks blocks or layers that the expert changes: load the one that it was learned on."
        )
    if any(hasattr(module, "_hf_hook") for module in plain.modules()) or not all(map(is_plain, plain.parameters())):
        raise ExpertsError(
            "This pipeline's UNet is quantized or offloaded: load one in half precision or float32, and call"
            " 'enable_model_cpu_offload' of the pipeline that comes back."
        )
    network = _with_own_parameters(sharing_copy(plain))
    try:
        delta = whole_delta(delta, narrowed_layers(plain, units, left_out), plain, f"{UNET}.")
        before = add_lora(network, {name.removeprefix(f"{UNET}."): weight for name, weight in delta.items()})
    except ValueError as error:
        raise ExpertsError(
            f"What the expert learned does not fit this pipeline ({error}): load the one that it was learned on."
        ) from error
    leave_out(network, left_out, timestep_at(pipeline, whole_until), before, units)
    setattr(network, LEFT_OUT, left_out)
    network.save_pretrained = _save_nothing
    drawing: Any = copy.copy(pipeline)
    drawing.unet = network
    if left_out.kept:
        drawing.load_lora_weights = drawing.load_ip_adapter = _load_nothing
        for name in LOADERS:  # Other pipelines may be made of this one's parts.
            setattr(network, name, _load_nothing)
    found: Pipeline = drawing
    return found


def timestep_at(pipeline: Any, t: float) -> float:
    """What the UNet of a pipeline is told at a time t, as `Denoiser` counts times; at 0 `EVERYWHERE`."""
    if t <= 0:
        return EVERYWHERE
    steps = getattr(pipeline.scheduler.config, "num_train_timesteps", STEPS_LEARNED)
    return float(round(t * (steps - 1)))


def require_whole(pipeline: Any) -> None:
    """Raises `ExpertsError` if a pipeline is one of `narrowed_pipeline`."""
    if hasattr(unet_of(pipeline), LEFT_OUT):
        raise ExpertsError("This pipeline is an expert already: use the one that it was made of.")


def _is_residual(block: Any) -> bool:
    """Whether a block gives what it is given, and something added."""
    widens = block.conv_shortcut is not None or block.in_channels != block.out_channels
    return not (widens or block.up or block.down) and block.output_scale_factor == 1


def _with_own_parameters(network: Any) -> Any:
    """The network, with parameters of its own that share their numbers with those of before: whoever moves or converts
    one of both moves that one alone."""
    with torch.inference_mode(False):
        for module in network.modules():
            for name, weight in module._parameters.items():
                if weight is not None:
                    module._parameters[name] = nn.Parameter(weight.data, requires_grad=weight.requires_grad)
    return network


def _takes_pictures(network: Any) -> bool:
    """Whether an IP-Adapter is loaded."""
    processors = getattr(network, "attn_processors", {}).values()
    return getattr(network, "encoder_hid_proj", None) is not None or any(hasattr(one, "to_k_ip") for one in processors)


def _save_nothing(*args: Any, **kwargs: Any) -> None:
    raise ExpertsError(
        "A folder of diffusers does not tell which blocks an expert leaves out: save the pipeline that it was made of,"
        " and the experts with 'save_experts'."
    )


def _load_nothing(*args: Any, **kwargs: Any) -> None:
    raise ExpertsError(
        "LoRAs and IP-Adapters do not fit an expert whose layers are narrower: learn experts of a pipeline that the"
        " LoRA is fused into ('fuse_lora'), or experts that leave out whole blocks."
    )
