"""Takes blocks out of the host's denoisers: which can go, and a MODEL that computes without them.

By the host's own wrapper around a denoiser's network (`WrappersMP.DIFFUSION_MODEL`), which every version that is
supported calls. The host's patch of a UNet's layers (`set_model_forward_timestep_embed_patch`) is asked for residual
blocks and transformers on newer hosts alone: up to 0.3.75 for layers of no known class (docs/ARCHITECTURE.md, Host
facts 25). The shared model is whole between two calls, so that LoRAs, fingerprints and other clones never see less.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import comfy.ldm.lumina.model
import comfy.lora
import comfy.model_patcher
import comfy.patcher_extension
from comfy.ldm.modules.attention import SpatialTransformer
from comfy.ldm.modules.diffusionmodules.openaimodel import ResBlock, UNetModel
from torch import Tensor, nn

from ...prefix import fingerprint
from ...prefix.errors import ExpertsError
from ...runs.digest import original_weights
from ..parts import Prunable, without_parts
from .denoiser import ComfyDenoiser
from .tuning import DENOISER

KEY = "anonymize_faces_expert"
"""Of our wrapper among a model's."""


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


def expert_model(model: Any, removed: Sequence[str], delta: Mapping[str, Tensor]) -> Any:
    """A clone of a MODEL that computes without some blocks and with a LoRA; the MODEL itself stays as it was.

    Args:
        removed: names of blocks, some of `removable`.
        delta: LoRA as `engines.comfy.tuning.lora_of` has it; may be empty.

    Raises:
        ExpertsError: the model computes without some blocks already, or has not those.
    """
    require_whole(model)
    network = model.model.diffusion_model
    if not set(removed) <= set(removable(network)):
        raise ExpertsError("This model lacks blocks that the expert takes out: load the one that it was learned on.")
    chosen = model.clone()
    chosen.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL, KEY, _without(tuple(removed)))
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


def _without(removed: tuple[str, ...]) -> Callable[..., Tensor]:
    """What the host runs in place of the network."""

    def run(execute: Any, *args: Any, **kwargs: Any) -> Tensor:
        with without_parts(execute.class_obj, removed):
            return execute(*args, **kwargs)

    return run
