"""Has a MODEL change only the faces: blends what it predicts for the plain and for the protected prompt by a mask.

The protected conditioning carries the plain one under a key of ours, which the host hands on and does not read: with
any other MODEL it is the protected conditioning and nothing else. Where the host asks its denoiser about conditioning,
a keyed wrapper on a clone of the MODEL has it asked about both in one batch, and blends the answers
(`prefix.face_region`). Whatever else hangs on the conditioning (areas, masks, control) holds for both.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import comfy.samplers
import torch
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ...prefix.errors import AnonymizationError, PrefixMismatchError
from ...prefix.face_region import FaceRegion, blended, noise_level
from ...prefix.value import Prefix
from ..options import USUAL_REGION, RegionSettings

KEY = "anonymize_faces_region"
"""Of the wrapper on the MODEL."""

PLAIN = "anonymize_faces_plain"
"""Under which protected conditioning carries what differs in the plain one."""

CELL = 8
"""Pixels that a mask's cell is shown as."""

LOOKED_AT = 0.15
"""Share of the noise schedule at which `face_masks` looks at a finished picture: its faces can be seen, and it need not
have been drawn by this model."""

_TWINS_KEPT = 8


def with_plain(protected: Sequence[Any], plain: Sequence[Any]) -> list[Any]:
    """Protected conditioning that carries the plain one of the same text.

    Raises:
        AnonymizationError: they are not of the same make.
    """
    if len(protected) != len(plain):
        raise AnonymizationError("The plain and the protected prompt come in different parts: encode the same text.")
    return [
        [states, extras | {PLAIN: {"states": plain_states, "extras": _other(extras, plain_extras)}}]
        for (states, extras), (plain_states, plain_extras) in zip(protected, plain, strict=True)
    ]


def _other(extras: Mapping[str, Any], plain: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in plain.items() if extras.get(key) is not value}


def change_faces_alone(model: Any, prefix: Prefix, settings: RegionSettings = USUAL_REGION) -> Any:
    """A clone of the host's MODEL that draws conditioning of `with_plain` with its faces changed alone.

    Raises:
        PrefixMismatchError: the prefix does not say where faces are, or says so of other latents.
    """
    if not prefix.face_region:
        raise PrefixMismatchError(
            "This prefix does not know where faces are: learn one with 'face_region' on, or use Anonymize Faces."
        )
    region = FaceRegion(prefix.face_region)
    channels = model.get_model_object("latent_format").latent_channels
    if channels != region.channels:
        raise PrefixMismatchError(
            f"This prefix learned where faces are in latents of {region.channels} channels, and this model has"
            f" {channels}: choose a prefix that was learned on a model of its family."
        )
    clone = model.clone()
    clone.remove_wrappers_with_key(WrappersMP.CALC_COND_BATCH, KEY)
    clone.add_wrapper_with_key(WrappersMP.CALC_COND_BATCH, KEY, Blending(region, settings))
    return clone


class Blending:
    """The wrapper. Called as the host's `calc_cond_batch`, after whatever runs it.

    Args:
        watch: called with each mask `[B, ..., h, w]`.
    """

    def __init__(
        self, region: FaceRegion, settings: RegionSettings, watch: Callable[[Tensor], None] | None = None
    ) -> None:
        self.region, self.settings = region, settings
        self._watch = watch
        self._twins: dict[Any, dict[str, Any]] = {}

    def watched(self, watch: Callable[[Tensor], None]) -> Blending:
        """The same, and `watch` is called."""
        return Blending(self.region, self.settings, watch)

    def __call__(
        self, executor: Any, model: Any, conds: Sequence[Any], x: Tensor, timestep: Tensor, model_options: Any
    ) -> Any:
        """What the denoiser takes x for, by each group of conditioning."""
        carrying = [place for place, group in enumerate(conds) if any(PLAIN in entry for entry in group or ())]
        if not carrying or self._is_whole or x.ndim not in (4, 5) or x.shape[1] != self.region.channels:
            return executor(model, conds, x, timestep, model_options)
        plain = [[self._twin(model, entry, x) for entry in conds[place]] for place in carrying]
        answers = list(executor(model, [*conds, *plain], x, timestep, model_options))
        levels = _levels(model, timestep, x)
        for place, told_plain in zip(carrying, answers[len(conds) :], strict=True):
            answers[place] = self._blended(told_plain, answers[place], levels)
        return answers[: len(conds)]

    @property
    def _is_whole(self) -> bool:
        """Whether there is nothing to ask, as everything is covered."""
        return self.settings.is_full and self._watch is None

    def _blended(self, plain: Tensor, protected: Tensor, levels: Tensor) -> Tensor:
        logits = self.region.logits(plain, protected, levels)
        mask = self.region.mask(
            logits, levels.to(logits), self.settings.certainty, self.settings.margin, self.settings.softness
        )
        if self._watch is not None:
            self._watch(mask)
        return blended(plain, protected, mask)

    def _twin(self, model: Any, entry: dict[str, Any], x: Tensor) -> dict[str, Any]:
        """An entry that the host has prepared, with what its text says without protection in place of the other."""
        if PLAIN not in entry:
            return entry
        known = entry.get("uuid")
        twin = None if known is None else self._twins.get(known)
        if twin is None:
            twin = _unprotected(model, entry, x)
        if known is not None:
            self._twins = dict(list(self._twins.items())[1 - _TWINS_KEPT :]) | {known: twin}
        return {**entry, **twin}


def _unprotected(model: Any, entry: dict[str, Any], x: Tensor) -> dict[str, Any]:
    """What differs in an entry of the host's, told the plain text."""
    carried = entry[PLAIN]
    raw = {key: value for key, value in entry.items() if key != "model_conds"} | {"model_conds": {}}
    plain = raw | carried["extras"] | {"cross_attn": carried["states"]}
    told, told_plain = (
        comfy.samplers.encode_model_conds(
            model.extra_conds, [one], x, x.device, "positive", latent_image=torch.zeros_like(x)
        )[0]["model_conds"]
        for one in (raw, plain)
    )
    # What pictures say (inpainting) was prepared with pictures that are not here, and is no different.
    others = {key: cond for key, cond in told_plain.items() if not _alike(told.get(key), cond)}
    kept = {key: cond for key, cond in entry["model_conds"].items() if key in told_plain or key not in told}
    return {"model_conds": kept | others, "cross_attn": carried["states"], "uuid": uuid.uuid4()}


def _alike(one: Any, other: Any) -> bool:
    first, second = (getattr(cond, "cond", None) for cond in (one, other))
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        return first.shape == second.shape and bool((first == second).all())
    return type(one) is type(other) and not isinstance(first, Tensor | list) and first == second


def _levels(model: Any, sigmas: Tensor, x: Tensor) -> Tensor:
    """The level of noise of each picture, `[B]`."""
    one = torch.ones(len(sigmas), *[1] * (x.ndim - 1), device=sigmas.device)
    sampling = model.model_sampling
    signal, noise = sampling.noise_scaling(sigmas, one * 0, one), sampling.noise_scaling(sigmas, one, one * 0)
    levels = noise_level(signal.flatten(), noise.flatten()).float()
    return levels.expand(len(x)) if len(levels) == 1 else levels


def face_masks(model: Any, positive: Sequence[Any], latents: Tensor) -> Tensor:
    """Where the head sees faces in finished pictures, `[B, h, w]` from 0 to 1, with `CELL` pixels to a cell.

    Args:
        model: as `change_faces_alone` made it.
        positive: conditioning of `with_plain` that the pictures were drawn with.
        latents: of the pictures, as the host hands them from node to node.

    Raises:
        AnonymizationError: the model or the conditioning is another one.
    """
    found = model.wrappers.get(WrappersMP.CALC_COND_BATCH, {}).get(KEY)
    if not found:
        raise AnonymizationError("This model does not look for faces: connect the model of Anonymize Face Region.")
    if not any(PLAIN in extras for _, extras in positive):
        raise AnonymizationError(
            "This conditioning carries no plain prompt to compare with: connect that of Anonymize Face Region."
        )
    masks: list[Tensor] = []
    looking = model.clone()
    looking.remove_wrappers_with_key(WrappersMP.CALC_COND_BATCH, KEY)
    looking.add_wrapper_with_key(WrappersMP.CALC_COND_BATCH, KEY, found[-1].watched(masks.append))
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
