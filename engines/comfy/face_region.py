"""Has a MODEL change only the faces of what it draws, and shows where they are.

The protected conditioning carries the plain one under a key of ours, which the host hands on and does not read: with
any other MODEL it is the protected conditioning and nothing else. `face_blending` draws by both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import comfy.samplers
import torch
from torch import Tensor

from ...prefix.errors import AnonymizationError
from ...prefix.value import Prefix
from ..options import USUAL_REGION, RegionSettings
from ..two_pictures import region_for
from .face_blending import PLAIN, FaceBlending

CELL = 8
"""Pixels that a mask's cell is shown as."""

LOOKED_AT = 0.15
"""Share of the noise schedule at which `face_masks` looks at a finished picture: its faces can be seen, and it need not
have been drawn by this model."""


def with_plain(protected: Sequence[Any], plain: Sequence[Any]) -> list[Any]:
    """Protected conditioning that carries the plain one of the same text.

    Raises:
        AnonymizationError: they are not of the same make.
    """
    if len(protected) != len(plain):
        raise AnonymizationError("The plain and the protected prompt come in different parts: encode the same text.")
    return [
        [states, extras | {PLAIN: {"of": states, "states": plain_states, "extras": _other(extras, plain_extras)}}]
        for (states, extras), (plain_states, plain_extras) in zip(protected, plain, strict=True)
    ]


def _other(extras: Mapping[str, Any], plain: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in plain.items() if extras.get(key) is not value}


def change_faces_alone(model: Any, prefix: Prefix, settings: RegionSettings = USUAL_REGION) -> Any:
    """A clone of the host's MODEL that draws conditioning of `with_plain` with its faces changed alone.

    Raises:
        PrefixMismatchError: the prefix does not say where faces are, or says so of other latents.
    """
    channels = model.get_model_object("latent_format").latent_channels
    region = region_for(prefix, channels, "Anonymize Faces")
    clone = model.clone()
    FaceBlending(region, settings).join(clone)
    return clone


def face_masks(model: Any, positive: Sequence[Any], latents: Tensor) -> Tensor:
    """Where the head sees faces in finished pictures, `[B, h, w]` from 0 to 1, with `CELL` pixels to a cell.

    Args:
        model: as `change_faces_alone` made it.
        positive: conditioning of `with_plain` that the pictures were drawn with.
        latents: of the pictures, as the host hands them from node to node.

    Raises:
        AnonymizationError: the model or the conditioning is another one.
    """
    blending = FaceBlending.of(model)
    if blending is None:
        raise AnonymizationError("This model does not look for faces: connect the model of Anonymize Face Region.")
    if not any(PLAIN in extras for _, extras in positive):
        raise AnonymizationError(
            "This conditioning carries no plain prompt to compare with: connect that of Anonymize Face Region."
        )
    masks: list[Tensor] = []
    looking = model.clone()
    blending.watched(lambda mask, levels: masks.append(mask)).join(looking)
    guider = comfy.samplers.CFGGuider(looking)
    guider.set_conds([list(entry) for entry in positive], [list(entry) for entry in positive])
    guider.set_cfg(1.0)

    def look_once(asked: Any, x: Tensor, sigmas: Tensor, extra_args: Mapping[str, Any] = {}, **_: Any) -> Tensor:
        return asked(x, sigmas[0] * x.new_ones(len(x)), **extra_args)

    sigma = looking.get_model_object("model_sampling").percent_to_sigma(1 - LOOKED_AT)
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float32)
    sampler = comfy.samplers.KSAMPLER(look_once)
    guider.sample(noise, latents, sampler, torch.tensor([float(sigma), 0.0]), disable_pbar=True, seed=0)
    mask = masks[-1].float().cpu()
    mask = mask.reshape(-1, *mask.shape[-2:])
    return mask.repeat_interleave(CELL, 1).repeat_interleave(CELL, 2)
