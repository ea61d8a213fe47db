"""Draws a plain picture beside a protected one where a pipeline asks its UNet, and blends the answers.

Of the places where diffusers lets others in, the UNet's call is the one that shows what is needed: the noised latents,
the time, and all that the UNet is told. `callback_on_step_end` comes when a step is done, and a scheduler sees answers
without what was asked. So the UNet is called by a class of its own while a picture is drawn, as `witness` does it: it
asks the UNet a second time, told the plain prompt, about the plain picture that `engines.two_pictures` follows, and
answers what makes the scheduler take the picture for the blend of both. Schedulers, weights and hooks are not touched.

A UNet of Stable Diffusion 1, 2 and XL sees x / sqrt(sigma² + 1) of x = x0 + sigma n, whatever the scheduler.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from ...prefix.errors import AnonymizationError, PrefixMismatchError
from ...prefix.face_region import FaceRegion, noise_level
from ..answer_caches import around_network, require_no_cache
from ..clean import clean_factors
from ..options import RegionSettings
from ..two_pictures import TwoPictures, region_mask
from .noise_levels import BetaLevels, levels_of
from .prompt_arguments import Side
from .witness import named_like, plain_part

PREDICTED = ("epsilon", "v_prediction")
"""What UNets may predict, in the words of schedulers."""

NEGATIVE = "negative"
"""Key of the negative prompt among those that have no plain counterpart."""

Ask = Callable[..., tuple[Any, ...]]
"""The UNet's call."""


class UNetBlending:
    """What takes the place of a pipeline's UNet while pictures are drawn.

    Args:
        pipeline: that is protected.

    Attributes:
        pipeline: that one.
        plain: the prompts without the prefix, once they are encoded.

    Raises:
        PrefixMismatchError: the levels of noise of the pipeline's scheduler are not known.
    """

    def __init__(self, pipeline: Any, region: FaceRegion, settings: RegionSettings) -> None:
        self.pipeline = pipeline
        self.plain: Side | None = None
        self._region, self._settings = region, settings
        self._levels = beta_levels(pipeline)
        self._run = TwoPictures()

    @contextmanager
    def joined(self) -> Iterator[None]:
        """The pipeline's UNet is asked by way of this one; afterwards it is the one that it was.

        Raises:
            PrefixMismatchError: it is drawing already.
            AnonymizationError: there is a cache of answers on it.
        """
        parts = vars(self.pipeline)  # Past the guard, which is in the class that is asked.
        before = parts["unet"]
        if hasattr(type(before), "_anonymization_blending"):
            raise PrefixMismatchError("This pipeline is drawing already: give each thread a copy of its own.")
        require_no_cache(around_network(plain_part(before)), "use the protected pipeline as it is")
        parts["unet"] = _asked_by_way_of(self, before)
        try:
            yield
        finally:
            parts["unet"] = before
            self.plain, self._run = None, TwoPictures()  # Hooks that were put on meanwhile may hold on to this.

    def answer(self, ask: Ask, sample: Tensor, timestep: Any, told: Mapping[str, Any]) -> tuple[Any, ...]:
        """What the UNet answers of the protected picture, where a face is; else what leads to the plain one.

        Args:
            ask: the guarded UNet.
            sample: the pictures as it sees them; twice, those of the negative prompts first, where there is guidance.
            told: what else it is told, by name.
        """
        answers = ask(sample, timestep, **told)
        predicted, guided = answers[0], bool(self.pipeline.do_classifier_free_guidance)
        count = len(sample) // (2 if guided else 1)
        if self.plain is None or len(self.plain[0]) != count:
            raise AnonymizationError(
                "The pipeline draws other prompts than it has encoded, so nothing was drawn: give the prompt as text."
            )
        seen = sample[-count:]
        sigmas = self._sigmas(timestep, count).to(sample.device)
        column = sigmas.view(-1, 1, 1, 1)
        scale = (column.square() + 1).sqrt()
        x = seen.float() * scale
        a, b = clean_factors(
            lambda latents, noise: self._levels.add_noise(latents, noise, column),
            lambda latents, noise: self._levels.target(latents, noise, column),
            x,
        )
        run = self._run
        together = run.advance(x, sigmas)
        apart = run.apart
        assert apart is not None
        seen_plain = seen if together else ((x + apart) / scale).to(seen)

        def taken_for(of: Tensor, output: Tensor) -> Tensor:
            return a * of + b * output.float()

        def asked_of_plain(rows: slice, states: Tensor, pooled: Tensor | None) -> Tensor:
            other = _rows(told, rows) | {"encoder_hidden_states": states}
            if pooled is not None:
                other["added_cond_kwargs"] = {**other["added_cond_kwargs"], "text_embeds": pooled}
            return taken_for(x + apart, plain_part(self.pipeline.unet)(seen_plain, timestep, **other)[0])

        protected = taken_for(x, predicted[-count:])
        plain = asked_of_plain(slice(-count, None), *self.plain)
        levels = noise_level(torch.ones_like(sigmas), sigmas)
        mask = run.remember(region_mask(self._region, self._settings, plain, protected, levels), levels)
        whole = predicted[-count:]
        if guided:
            unwanted = taken_for(x, predicted[:count])
            unwanted_plain = unwanted
            if not together:
                rows = slice(0, count)
                states = told["encoder_hidden_states"][rows]
                known = run.knows([NEGATIVE])
                answer = None if known else asked_of_plain(rows, states, None)
                unwanted_plain = run.of_plain(NEGATIVE, unwanted, torch.ones_like(sigmas), sigmas, answer)
            strength = self.pipeline.guidance_scale
            protected = unwanted + strength * (protected - unwanted)
            plain = unwanted_plain + strength * (plain - unwanted_plain)
            whole = predicted[:count] + strength * (whole - predicted[:count])
        made = run.blended(plain, protected, mask)
        answer = torch.where(mask[:, None] >= 1, whole, ((made - a * x) / b).to(whole))
        # The guidance of the pipeline makes of two answers that are one and the same that very answer.
        return torch.cat([answer] * (2 if guided else 1)), *answers[1:]

    def _sigmas(self, timestep: Any, count: int) -> Tensor:
        """The level of noise that the UNet is asked about, `[n]`, which the scheduler knows best."""
        scheduler = self.pipeline.scheduler
        one = torch.ones((), dtype=torch.float64)
        scaled = float(scheduler.scale_model_input(one, timestep))
        if scaled < 1:
            sigma = (1 / scaled**2 - 1) ** 0.5
        else:  # Its pictures are scaled already.
            sigma = float(self._levels.sigmas(torch.as_tensor(timestep).float().cpu().view(1) / self._levels.last))
        return torch.full((count,), sigma)


def beta_levels(pipeline: Any) -> BetaLevels:
    """The levels of noise of the pipeline's scheduler.

    Raises:
        PrefixMismatchError: they are not those of Stable Diffusion 1, 2 and XL.
    """
    scheduler = pipeline.scheduler
    levels = levels_of(scheduler, 0) if hasattr(scheduler, "alphas_cumprod") else None
    if not isinstance(levels, BetaLevels) or scheduler.config.get("prediction_type", "epsilon") not in PREDICTED:
        raise PrefixMismatchError(
            f"{type(scheduler).__name__} does not tell the levels of noise that faces alone are changed by: give the"
            " pipeline another scheduler, such as EulerDiscreteScheduler, or use the protected pipeline as it is."
        )
    return levels


def _asked_by_way_of(blending: UNetBlending, guarded: Any) -> Any:
    """The guarded UNet under a class of its own; all state is one and the same."""
    of: Any = type(guarded)

    class BlendedUNet(of):
        _anonymization_blending = blending

        def __call__(
            self, sample: Tensor, timestep: Any, encoder_hidden_states: Tensor, **told: Any
        ) -> tuple[Any, ...]:
            told["encoder_hidden_states"] = encoder_hidden_states
            return blending.answer(super().__call__, sample, timestep, told)

    named_like(BlendedUNet, of)
    asked = object.__new__(BlendedUNet)
    object.__setattr__(asked, "__dict__", vars(guarded))
    return asked


def _rows(told: Mapping[str, Any], rows: slice) -> dict[str, Any]:
    """What the UNet is told of some of the pictures: what SDXL is told besides comes by picture, too."""
    added = told.get("added_cond_kwargs")
    return {**told, "added_cond_kwargs": added and {name: part[rows] for name, part in added.items()}}
