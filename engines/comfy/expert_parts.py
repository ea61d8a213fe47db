"""Takes blocks out of the host's denoisers: which can go, and a MODEL that computes without them.

By the host's own wrapper around a denoiser's network (`WrappersMP.DIFFUSION_MODEL`), which every version that is
supported calls. The host's patch of a UNet's layers (`set_model_forward_timestep_embed_patch`) is asked for residual
blocks and transformers on newer hosts alone: up to 0.3.75 for layers of no known class (docs/ARCHITECTURE.md, Host
facts 25). The shared model is whole between two calls, so that LoRAs, fingerprints and other clones never see less.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import comfy.ldm.lumina.model
import comfy.lora
import comfy.model_patcher
import comfy.patcher_extension
import torch
from comfy.ldm.modules.attention import SpatialTransformer
from comfy.ldm.modules.diffusionmodules.openaimodel import ResBlock, UNetModel
from torch import Tensor, nn

from ...prefix import fingerprint
from ...prefix.errors import ExpertsError
from ...runs.digest import original_weights
from ..parts import EVERYWHERE, Prunable, is_above, without_parts
from .denoiser import ComfyDenoiser
from .tuning import DENOISER

KEY = "anonymize_faces_expert"
"""Of our wrapper among a model's."""

WEIGHT_FUNCTIONS = "weight_function"
"""Attribute of the host's layers: functions that a weight goes through before it is used."""

UP, DOWN = ".lora_up.weight", ".lora_down.weight"
"""What the names of a layer's two matrices end with in the host's files."""


def prunable(denoiser: ComfyDenoiser, model: Any) -> Prunable:
    """What can be taken out of a MODEL of the host, as the denoiser was made of it.

    Raises:
        ExpertsError: nothing, in a model of this kind.
    """
    network = model.model.diffusion_model
    return Prunable(denoiser, network, removable(network), denoiser_fingerprint(model))


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


def denoiser_fingerprint(model: Any) -> str:
    """`prefix.fingerprint` of a MODEL's denoiser, before LoRAs."""
    weights = original_weights(model)
    return fingerprint({name: weight for name, weight in weights.items() if name.startswith(DENOISER)})


def expert_model(model: Any, removed: Sequence[str], delta: Mapping[str, Tensor], whole_until: float = 0.0) -> Any:
    """A clone of a MODEL that computes without some blocks and with a LoRA; the MODEL itself stays as it was.

    Args:
        removed: names of blocks, some of `removable`.
        delta: LoRA as `engines.comfy.tuning.lora_of` has it; may be empty.
        whole_until: time t up to which the MODEL computes as it came in, as `Denoiser` counts times.

    Raises:
        ExpertsError: the model computes without some blocks already, or has not those.
    """
    require_whole(model)
    network = model.model.diffusion_model
    if not set(removed) <= set(removable(network)):
        raise ExpertsError("This model lacks blocks that the expert takes out: load the one that it was learned on.")
    chosen = model.clone()
    whole = _taken_away(network, delta) if whole_until > 0 else {}
    narrowed = for_noise(
        timestep_at(model, whole_until),
        lambda network: without_parts(network, removed),
        lambda network: _weights_changed(network, whole),
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


Altered = Callable[[nn.Module], AbstractContextManager[None]]
"""Inside, a network computes otherwise."""


def for_noise(above: float, altered: Altered, otherwise: Altered) -> Callable[..., Tensor]:
    """What the host runs in place of a network that is altered where it is told of timesteps above one.

    Args:
        altered, otherwise: opened around calls above it, and around others.
    """

    def run(execute: Any, noised: Tensor, timesteps: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        with (altered if is_above(above, timesteps) else otherwise)(execute.class_obj):
            return execute(noised, timesteps, *args, **kwargs)

    return run


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
    before = []
    try:
        for name, function in functions.items():
            module = network.get_submodule(name)
            own = getattr(module, WEIGHT_FUNCTIONS)
            before.append((module, vars(module).get(WEIGHT_FUNCTIONS)))
            setattr(module, WEIGHT_FUNCTIONS, [*own, function])
        yield
    finally:
        for module, own in before:
            if own is None:
                delattr(module, WEIGHT_FUNCTIONS)
            else:
                setattr(module, WEIGHT_FUNCTIONS, own)
