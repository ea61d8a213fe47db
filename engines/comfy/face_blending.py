"""Draws a plain picture beside a protected one, and puts the protected one's faces into it.

Where the host asks its guider what it takes x for, keyed wrappers on a MODEL have it asked twice: as it is, and with
the plain conditioning that the protected one carries (`PLAIN`), about the x that a plain picture from the same noise
would have by now. `engines.two_pictures` follows that one and blends the answers. Whatever else hangs on the
conditioning (areas, masks, control) holds for both.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import comfy.samplers
import torch
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ...prefix.errors import AnonymizationError
from ...prefix.face_region import FaceRegion, noise_level
from ..answer_caches import around_model, around_network, require_no_cache
from ..options import RegionSettings
from ..two_pictures import TwoPictures, region_mask

KEY = "anonymize_faces_region"
"""Of the wrappers on the MODEL."""

PLAIN = "anonymize_faces_plain"
"""Under which protected conditioning carries what differs in the plain one."""

_KEPT = 16

IN_PARTS = (
    "Context windows draw a video in parts, and faces cannot be told in parts of it: take the context windows out, or"
    " use Anonymize Faces without Anonymize Face Region."
)

ANSWERED_BEFORE = (
    "Another node gave an answer of an earlier step in place of the model's, so that faces would come out unprotected:"
    " put LazyCache, or what does the same, before Anonymize Face Region, or take it out."
)

Watch = Callable[[Tensor, Tensor], None]

Groups = Sequence[Any]
"""Of conditioning, as the host asks about them: lists of entries, or None."""


@dataclass
class _Step:
    """What is asked at one step, first of the protected picture, then of the plain one.

    Attributes:
        together: whether the two are still one, of which all but the plain prompts says the same.
        shape: of what the guider is asked about.
        protected: answers of each call about the former.
        levels: of noise, `[B]`.
        masks: of what carries a plain prompt.
        calls: about the latter; None before there are any.
    """

    together: bool
    shape: torch.Size
    protected: list[list[Tensor]] = field(default_factory=list)
    levels: Tensor = field(default_factory=lambda: torch.zeros(1))
    masks: list[Tensor] = field(default_factory=list)
    calls: int | None = None


class FaceBlending:
    """The wrappers, for one MODEL.

    Args:
        watch: called with each mask `[B, ..., h, w]` and the levels of noise, `[B]`.
    """

    def __init__(self, region: FaceRegion, settings: RegionSettings, watch: Watch | None = None) -> None:
        self.region, self.settings = region, settings
        self._watch = watch
        self._run: TwoPictures | None = None
        self._step: _Step | None = None
        self._looked_at: TwoPictures | None = None
        self._reached = 0
        self._twins: dict[Any, dict[str, Any]] = {}

    def watched(self, watch: Watch) -> FaceBlending:
        """The same, and `watch` is called."""
        return FaceBlending(self.region, self.settings, watch)

    def join(self, model: Any) -> None:
        """Puts the wrappers on a MODEL, in place of others of this kind."""
        for kind, wrapper in (
            (WrappersMP.SAMPLER_SAMPLE, self.sample),
            (WrappersMP.PREDICT_NOISE, self.predict),
            (WrappersMP.CALC_COND_BATCH, self.ask),
            (WrappersMP.APPLY_MODEL, self.reach),
        ):
            model.remove_wrappers_with_key(kind, KEY)
            model.add_wrapper_with_key(kind, KEY, wrapper)

    @staticmethod
    def of(model: Any) -> FaceBlending | None:
        """The one on a MODEL, if there is one."""
        found = model.wrappers.get(WrappersMP.CALC_COND_BATCH, {}).get(KEY)
        return found[-1].__self__ if found else None

    def sample(
        self,
        executor: Any,
        model: Any,
        sigmas: Tensor,
        extra_args: Any,
        callback: Any,
        noise: Any,
        latent_image: Any = None,
        denoise_mask: Tensor | None = None,
        *more: Any,
        **others: Any,
    ) -> Any:
        """A sampler's run, which begins with two pictures in one."""
        before, self._run = self._run, TwoPictures(denoise_mask)
        try:
            return executor(model, sigmas, extra_args, callback, noise, latent_image, denoise_mask, *more, **others)
        finally:
            self._run = before

    def predict(
        self, executor: Any, x: Tensor, sigmas: Tensor, model_options: Mapping[str, Any] = {}, seed: Any = None
    ) -> Any:
        """What the guider takes x for: the plain picture where nothing is masked, the protected one where it is."""
        run = self._run
        if run is None or self._is_whole or x.ndim not in (4, 5) or x.shape[1] != self.region.channels:
            return executor(x, sigmas, model_options, seed)
        before, self._step = self._step, _Step(run.advance(x, sigmas), x.shape)
        try:
            protected = executor(x, sigmas, model_options, seed)
            self._step.calls = 0
            if not self._step.protected:
                if _carries_plain(executor.class_obj):
                    raise AnonymizationError(ANSWERED_BEFORE)
                return protected
            plain = executor(x + run.apart, sigmas, model_options, seed)
            levels, masks = self._step.levels, self._step.masks
            if not masks:
                raise AnonymizationError(ANSWERED_BEFORE)
        finally:
            self._step = before
        mask = run.remember(torch.stack(masks).amax(0), levels)
        if self._watch is not None:
            self._watch(mask, levels)
        return run.blended(plain, protected, mask)

    def ask(self, executor: Any, model: Any, conds: Groups, x: Tensor, sigmas: Tensor, model_options: Any) -> Any:
        """What the denoiser takes x for, by each group of conditioning."""
        step = self._step
        carrying = [place for place, group in enumerate(conds) if any(map(_carries, group or ()))]
        if step is None or not carrying:
            return executor(model, conds, x, sigmas, model_options)
        if x.shape != step.shape:
            raise AnonymizationError(IN_PARTS)
        if step.calls is None:
            if self._looked_at is not self._run:
                names = chain(around_model(model_options), around_network(model.diffusion_model))
                require_no_cache(names, "use Anonymize Faces without Anonymize Face Region")
                self._looked_at = self._run
            step.protected.append(list(self._asked(executor, model, conds, x, sigmas, model_options)))
            return step.protected[-1]
        call, step.calls = step.calls, step.calls + 1
        if call >= len(step.protected):
            raise AnonymizationError(ANSWERED_BEFORE)
        protected = step.protected[call]
        answers = self._of_plain(executor, model, conds, carrying, call, x, sigmas, model_options)
        if not step.masks:
            step.levels = _levels(model, sigmas, x)
            step.masks = [
                region_mask(self.region, self.settings, answers[place], protected[place], step.levels)
                for place in carrying
            ]
        return answers

    def _of_plain(
        self,
        executor: Any,
        model: Any,
        conds: Groups,
        carrying: Sequence[int],
        call: int,
        x: Tensor,
        sigmas: Tensor,
        model_options: Any,
    ) -> list[Tensor]:
        """Answers about the plain picture, which has an x of its own once the two are apart.

        Each group is told at its own place: what hangs on a model, as an IP-Adapter, tells positive prompts from
        negative ones by it.
        """
        assert self._run is not None and self._step is not None
        run, protected = self._run, self._step.protected[call]
        others = [place for place, group in enumerate(conds) if group is not None and place not in carrying]
        known = self._step.together or run.knows((call, place) for place in others)
        told: list[Any] = [None] * len(conds)
        for place in carrying if known else (*carrying, *others):
            (told[place],) = self._twins_of(model, [conds[place]], x)
        answers = list(self._asked(executor, model, told, x, sigmas, model_options))
        if self._step.together:
            return [answers[place] if place in carrying else answer for place, answer in enumerate(protected)]
        signal, noise = _signal_and_noise(model, sigmas, x)
        for place in others:
            told_now = None if known else answers[place]
            answers[place] = run.of_plain((call, place), protected[place], signal, noise, told_now)
        return answers

    def _asked(self, executor: Any, *asked: Any) -> Any:
        """Answers of the model, which must have been asked for them."""
        before = self._reached
        answers = executor(*asked)
        if self._reached == before:
            raise AnonymizationError(ANSWERED_BEFORE)
        return answers

    def reach(self, executor: Any, *asked: Any, **told: Any) -> Any:
        """The model is asked."""
        self._reached += 1
        return executor(*asked, **told)

    @property
    def _is_whole(self) -> bool:
        """Whether there is nothing to ask, as everything is covered."""
        return self.settings.is_full and self._watch is None

    def _twins_of(self, model: Any, groups: Groups, x: Tensor) -> list[list[dict[str, Any]]]:
        """Groups that the host has prepared, for the plain picture."""
        return [[self._twin(model, entry, x) for entry in group] for group in groups]

    def _twin(self, model: Any, entry: dict[str, Any], x: Tensor) -> dict[str, Any]:
        """An entry of such a group, told what its text says without protection, under an id of its own."""
        known = entry.get("uuid")
        twin = None if known is None else self._twins.get(known)
        if twin is None:
            twin = _unprotected(model, entry, x) if _carries(entry) else {}
            twin |= {"uuid": uuid.uuid4()}
        if known is not None:
            self._twins = dict(list(self._twins.items())[1 - _KEPT :]) | {known: twin}
        return {**entry, **twin}


def _carries_plain(guider: Any) -> bool:
    """Whether what a guider of the host's asks about carries a plain prompt; True where that cannot be seen."""
    groups = getattr(guider, "conds", None)
    if not isinstance(groups, Mapping):
        return True
    return any(_carries(entry) for group in groups.values() for entry in group or ())


def _carries(entry: Mapping[str, Any]) -> bool:
    """Whether an entry carries what its text says without protection.

    Not if its states were altered since then, as where they are set to zero for a negative prompt, or averaged: it is
    drawn protected as a whole.
    """
    return PLAIN in entry and entry.get("cross_attn") is entry[PLAIN]["of"]


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
    return {"model_conds": kept | others, "cross_attn": carried["states"]}


def _alike(one: Any, other: Any) -> bool:
    first, second = (getattr(cond, "cond", None) for cond in (one, other))
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        return first.shape == second.shape and bool((first == second).all())
    return type(one) is type(other) and not isinstance(first, Tensor | list) and first == second


def _levels(model: Any, sigmas: Tensor, x: Tensor) -> Tensor:
    """The level of noise of each picture, `[B]`."""
    return noise_level(*_signal_and_noise(model, sigmas, x))


def _signal_and_noise(model: Any, sigmas: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """How much of each x is picture and how much noise, `[B]` each."""
    one = torch.ones(len(sigmas), *[1] * (x.ndim - 1), device=sigmas.device)
    sampling = model.model_sampling
    parts = sampling.noise_scaling(sigmas, one * 0, one), sampling.noise_scaling(sigmas, one, one * 0)
    signal, noise = (part.flatten().float().expand(len(x)) for part in parts)
    return signal, noise
