"""Takes blocks out of the host's denoisers, or narrows layers: what can go, and a MODEL that computes without it.

By the host's own wrapper around a denoiser's network (`WrappersMP.DIFFUSION_MODEL`), which every version that is
supported calls. The host's patch of a UNet's layers (`set_model_forward_timestep_embed_patch`) is asked for residual
blocks and transformers on newer hosts alone: up to 0.3.75 for layers of no known class (docs/ARCHITECTURE.md, Host
facts 25). The shared model is whole between two calls, so that LoRAs, fingerprints and other clones never see less.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any
from weakref import WeakKeyDictionary, ref

import comfy.ldm.lumina.model
import comfy.lora
import comfy.model_patcher
import comfy.patcher_extension
import torch
from comfy.ldm.modules.attention import CrossAttention, FeedForward, SpatialTransformer
from comfy.ldm.modules.diffusionmodules.openaimodel import ResBlock, UNetModel
from torch import Tensor, nn

from ...prefix import fingerprint
from ...prefix.errors import ExpertsError
from ...runs.digest import original_weights
from ..pruning.deltas import whole_delta
from ..pruning.parts import EVERYWHERE, FORWARD, Prunable, is_above, without_parts
from ..pruning.units import (
    HEADS,
    HiddenUnits,
    LeftOut,
    NarrowedLayer,
    channel_groups,
    computed,
    heads,
    hidden_numbers,
    narrowed_heads,
    narrowed_layers,
)
from .denoiser import ComfyDenoiser
from .tuning import DENOISER

KEY = "anonymize_faces_expert"
"""Of our wrapper among a model's."""

WEIGHT_FUNCTIONS = "weight_function"
BIAS_FUNCTIONS = "bias_function"
"""Attributes of the host's layers: functions that a weight or a bias goes through before it is used."""

CASTS = "comfy_cast_weights"
"""Attribute of the host's layers: whether their weights are brought into another number format, or from elsewhere."""

HALF = 2
"""Bytes of a number that layers can be narrowed in, at least."""

REPLACED, ATTENTIONS = "patches_replace", ("attn1", "attn2")
"""What the host tells a network of, where other nodes compute attention, and the kinds of it."""

UP, DOWN = ".lora_up.weight", ".lora_down.weight"
"""What the names of a layer's two matrices end with in the host's files."""


def prunable(denoiser: ComfyDenoiser, model: Any) -> Prunable:
    """What can be taken out of a MODEL of the host, as the denoiser was made of it.

    Raises:
        ExpertsError: nothing, in a model of this kind.
    """
    network = model.model.diffusion_model
    names, units = removable(network), hidden_units(network)
    return Prunable(denoiser, network, names, denoiser_fingerprint(model), units)


def removable(network: nn.Module) -> dict[str, str]:
    """Names of the blocks that a network can do without, in its order, each with what people call it.

    Of the UNets of SD1, SD2 and SDXL residual blocks whose width stays, and transformers; of Lumina 2 the layers.

    Raises:
        ExpertsError: there are none, or nobody knows.
    """
    found = {}
    if isinstance(network, UNetModel):
        for name, module in network.named_modules():
            if type(module) is SpatialTransformer:
                found[name] = f"transformer {name}"
            elif type(module) is ResBlock and isinstance(module.skip_connection, nn.Identity) and not module.updown:
                found[name] = f"residual block {name}"
    elif isinstance(network, comfy.ldm.lumina.model.NextDiT):
        found = {f"layers.{number}": f"layer {number}" for number in range(len(network.layers))}
    if not found:
        raise ExpertsError(
            f"Nobody has tried which blocks a {type(network).__name__} can do without: experts are learned on"
            " checkpoints of SD1, SD2, SDXL and Lumina 2."
        )
    return found


def hidden_units(network: nn.Module) -> dict[str, HiddenUnits]:
    """What layers of a network can be narrowed by, by the name of the module that holds it; nothing if it is
    none of the UNets of SD1, SD2 and SDXL."""
    found: dict[str, HiddenUnits] = {}
    if not isinstance(network, UNetModel):
        return found
    for name, module in network.named_modules():
        if type(module) is CrossAttention:
            found[name] = heads(name, module.heads)
        elif type(module) is FeedForward and hasattr(module.net[0], "proj"):
            found[name] = hidden_numbers(name, module.net[2].in_features)
        elif type(module) is ResBlock and module.emb_layers is not None and not module.use_scale_shift_norm:
            into, out = ("in_layers.2", "emb_layers.1"), "out_layers.3"
            found[name] = channel_groups(name, into, "out_layers.0", out, network)
    return found


def denoiser_fingerprint(model: Any) -> str:
    """`prefix.fingerprint` of a MODEL's denoiser, before LoRAs."""
    weights = original_weights(model)
    return fingerprint({name: weight for name, weight in weights.items() if name.startswith(DENOISER)})


def expert_model(model: Any, left_out: LeftOut, delta: Mapping[str, Tensor], whole_until: float = 0.0) -> Any:
    """A clone of a MODEL that computes less, and with a LoRA; the MODEL itself stays as it was.

    Args:
        left_out: names of blocks, some of `removable`, and what stays of some of `hidden_units`.
        delta: LoRA as `engines.comfy.tuning.lora_of` has it, after `narrowed_delta`; may be empty.
        whole_until: time t up to which the MODEL computes as it came in, as `Denoiser` counts times.

    Raises:
        ExpertsError: the model is an expert already, has not those blocks, or has layers of another kind.
    """
    require_whole(model)
    network = model.model.diffusion_model
    units = hidden_units(network)
    if not (set(left_out.blocks) <= set(removable(network)) and left_out.is_of(units)):
        raise ExpertsError(
            "This model lacks blocks or layers that the expert changes: load the one that it was learned on."
        )
    try:
        delta = whole_delta(delta, narrowed_layers(network, units, left_out), network, DENOISER)
    except ValueError as error:
        raise ExpertsError(
            f"What the expert learned does not fit this model ({error}): load the one that it was learned on."
        ) from error
    chosen = model.clone()
    whole = _taken_away(network, delta) if whole_until > 0 else {}
    narrowed = for_noise(
        timestep_at(model, whole_until),
        Smaller(network, units, left_out),
        lambda network, options: _weights_changed(network, whole),
    )
    chosen.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL, KEY, narrowed)
    if delta:
        keys = comfy.lora.model_lora_keys_unet(model.model, {})
        chosen.add_patches(comfy.lora.load_lora(dict(delta), keys), 1.0)
    return chosen


def require_whole(model: Any) -> None:
    """Raises `ExpertsError` if a MODEL is one of `expert_model`."""
    if model.get_wrappers(comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL, KEY):
        raise ExpertsError("This model is an expert already: connect the model as its loader made it.")


def easy_cached(model: Any) -> Any:
    """The model with the host's own cache of steps, as its node has it; None on hosts without it."""
    try:
        from comfy_extras.nodes_easycache import EasyCacheNode
    except ImportError:
        return None
    return EasyCacheNode.execute(model, 0.2, 0.15, 0.95, False).args[0]


def timestep_at(model: Any, t: float) -> float:
    """What the network of a MODEL is told at a time t, as `Denoiser` counts times; at 0 `EVERYWHERE`."""
    if t <= 0:
        return EVERYWHERE
    sampling = model.model.model_sampling
    return float(sampling.timestep(torch.tensor([float(sampling.percent_to_sigma(1.0 - t))])))


Altered = Callable[[nn.Module, Mapping[str, Any]], AbstractContextManager[None]]
"""Inside, a network computes otherwise; called with it and with what the host tells it besides
(`transformer_options`)."""


def for_noise(above: float, altered: Altered, otherwise: Altered) -> Callable[..., Tensor]:
    """What the host runs in place of a network that is altered where it is told of timesteps above one.

    Args:
        altered, otherwise: opened around calls above it, and around others.
    """

    def run(execute: Any, noised: Tensor, timesteps: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        told = next((one for one in (*args, *kwargs.values()) if isinstance(one, dict) and REPLACED in one), {})
        with (altered if is_above(above, timesteps) else otherwise)(execute.class_obj, told):
            return execute(noised, timesteps, *args, **kwargs)

    return run


class Smaller:
    """Opens networks that compute less: without blocks, and with narrowed layers.

    The host may give a clone of a MODEL a network of its own, compiled or on another card: each is narrowed by itself.

    Args:
        network: one of them. It is not changed here.
        units: of it.

    Raises:
        ExpertsError: its layers are not the host's usual ones.
    """

    def __init__(self, network: nn.Module, units: Mapping[str, HiddenUnits], left_out: LeftOut) -> None:
        self._blocks = left_out.blocks
        self._cut = narrowed_layers(network, units, left_out)
        self._heads = narrowed_heads(units, left_out)
        self._layers: WeakKeyDictionary[nn.Module, list[_Narrowed]] = WeakKeyDictionary()
        self._layers_of(network)

    def _layers_of(self, network: nn.Module) -> list[_Narrowed]:
        if network not in self._layers:
            self._layers[network] = [_Narrowed(network.get_submodule(about.name), about) for about in self._cut]
        return self._layers[network]

    @contextmanager
    def __call__(self, network: nn.Module, told: Mapping[str, Any]) -> Iterator[None]:
        """Inside, the network computes less.

        Args:
            told: what the host tells it besides.

        Raises:
            ExpertsError: another node computes attention whose heads are fewer here, or layers that are narrower.
        """
        if self._heads and any(kind in ATTENTIONS and placed for kind, placed in told.get(REPLACED, {}).items()):
            raise ExpertsError(
                "Another node replaces attention in this model, which an expert with narrower layers cannot follow:"
                " take that node out, or learn experts that leave out whole blocks."
            )
        with without_parts(network, self._blocks), ExitStack() as undo:
            for layer in self._layers_of(network):
                layer.put(undo)
            for name, count in self._heads:
                _set_for_now(undo, network.get_submodule(name), HEADS, count)
            yield


class _Narrowed:
    """Answers in place of one of the host's layers, which computes some of its outputs of some of its inputs.

    Weights that the host casts, brings from elsewhere or changes go through its own functions, and are cut there.

    Raises:
        ExpertsError: the layer is not one of the host's usual ones.
    """

    def __init__(self, layer: Any, about: NarrowedLayer) -> None:
        usual = isinstance(layer, nn.Linear | nn.Conv2d | nn.GroupNorm) and hasattr(layer, WEIGHT_FUNCTIONS)
        weight = layer.weight
        if not usual or type(weight) not in (Tensor, nn.Parameter) or weight.dtype.itemsize < HALF:
            raise ExpertsError(
                "This model's layers are of a kind that experts cannot narrow, such as quantized ones: load the"
                " checkpoint in half precision with the host's own loader."
            )
        self._layer = ref(layer)  # The network holds it, and the table of networks must not hold the network.
        self._about = {torch.device("cpu"): about}

    def put(self, undo: ExitStack) -> None:
        """Answers from now on, until the stack is undone.

        Raises:
            ExpertsError: somebody else answers in the layer's place.
        """
        layer: Any = self._layer()
        other = vars(layer).get(FORWARD)
        # Whoever took something away again may have left the layer's own one there.
        if other is not None and getattr(other, "__func__", None) is not type(layer).forward:
            raise ExpertsError(
                "Another node computes in place of this model's layers (such as a LoRA that is loaded as a bypass),"
                " which an expert with narrower layers cannot follow: load that LoRA with Load LoRA, or learn experts"
                " that leave out whole blocks."
            )
        _set_for_now(undo, layer, FORWARD, self)

    def __call__(self, given: Tensor) -> Tensor:
        layer: Any = self._layer()
        about = self._about.get(given.device)
        if about is None:
            about = self._about[given.device] = self._about[torch.device("cpu")].on(given.device)
        if getattr(layer, CASTS) or layer.weight_function or layer.bias_function:
            return self._by_the_host(layer, about, given)
        weight = about.weight(layer.weight)
        bias = None if layer.bias is None else about.bias(layer.bias)
        return computed(layer, given, weight, bias, about.groups)

    def _by_the_host(self, layer: Any, about: NarrowedLayer, given: Tensor) -> Tensor:
        functions = {WEIGHT_FUNCTIONS: [*layer.weight_function, about.weight]}
        functions[BIAS_FUNCTIONS] = [*layer.bias_function, about.bias]
        with ExitStack() as undo:
            for name, value in functions.items():
                _set_for_now(undo, layer, name, value)
            if isinstance(layer, nn.GroupNorm):
                _set_for_now(undo, layer, "num_groups", about.groups)
            answer: Tensor = type(layer).forward(layer, given)
            return answer


class _TakenAway:
    """What the host calls with a weight that a LoRA was added to, and what gives it without.

    Args:
        up, down: the LoRA's matrices, `[out, rank]` and `[rank, in]`.
    """

    def __init__(self, up: Tensor, down: Tensor) -> None:
        self._matrices = up.flatten(1), down.flatten(1)

    def __call__(self, weight: Tensor) -> Tensor:
        self._matrices = up, down = tuple(one.to(weight.device, weight.dtype) for one in self._matrices)
        return torch.addmm(weight.flatten(1), up, down, alpha=-1).view(weight.shape)


def _taken_away(network: nn.Module, delta: Mapping[str, Tensor]) -> dict[str, _TakenAway]:
    """What takes a LoRA away again, by layer.

    Raises:
        ExpertsError: the network's layers are not the host's usual ones.
    """
    found = {}
    for name in delta:
        if name.endswith(UP):
            layer = name.removeprefix(DENOISER).removesuffix(UP)
            if not hasattr(network.get_submodule(layer), WEIGHT_FUNCTIONS):
                raise ExpertsError(
                    "This model's layers are of a kind that experts cannot change while they draw: load the checkpoint"
                    " with the host's own loader."
                )
            found[layer] = _TakenAway(delta[name], delta[name.removesuffix(UP) + DOWN])
    return found


@contextmanager
def _weights_changed(network: nn.Module, functions: Mapping[str, Callable[[Tensor], Tensor]]) -> Iterator[None]:
    """Inside, layers compute with what functions give of their weights, by the host's own list of such functions."""
    with ExitStack() as undo:
        for name, function in functions.items():
            layer: Any = network.get_submodule(name)
            _set_for_now(undo, layer, WEIGHT_FUNCTIONS, [*layer.weight_function, function])
        yield


def _set_for_now(undo: ExitStack, layer: nn.Module, name: str, value: Any) -> None:
    """Gives a layer an attribute, until the stack is undone, past `nn.Module.__setattr__`, which takes its time."""
    own = vars(layer)
    if name in own:
        undo.callback(own.__setitem__, name, own[name])
    else:
        undo.callback(own.pop, name)
    own[name] = value
