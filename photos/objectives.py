"""Defines what a change of photographs works towards: each method as a gradient with respect to the photos' latents."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from ..engines.denoiser import Denoiser
from ..runs.seeds import generator
from .denoising import CountedDenoiser, gradient_of
from .prompt_distribution import PromptDistribution, variance_of
from .settings import BOTH, ENCODER, ONE_PROMPT, PAPER, PROMPT_MIX, PROMPTS, ProtectionSettings

PAPER_STEPS, PAPER_RATE = 20, 1000.0
PAPER_ELEMENTS = 77 * 768 * 4 * 64 * 64
"""Of the prompt's states times the latents of SD1 at 512 pixels, for which the released rate was chosen."""

ADDITIONS = (
    "",
    ", black and white",
    " in the snow",
    " reading a book",
    " wearing a hat",
    ", an oil painting",
    " in a kitchen",
    " on a mountain at night",
)
"""What a mix of prompts says after the prompt: none of it is what an attacker of ours draws."""


class Objective(Protocol):
    """A method of protecting."""

    @property
    def counted(self) -> CountedDenoiser | None:
        """What it asks of the denoiser; None if it asks nothing."""

    def prepare(self, latents: Tensor, numbers: Sequence[int], step: int) -> None:
        """Called before each step with some photos' latents `[n, …]`, and their numbers."""

    def gradient(self, latents: Tensor, targets: Tensor | None, numbers: Sequence[int], step: int) -> Tensor:
        """What is to be made smaller, by its gradient with respect to latents `[B, …]`; its scale does not matter.

        Args:
            targets: latents of the same views of the other picture.
            numbers: of the photos.
        """

    def state(self) -> dict[str, Tensor]:
        """What it has found out, to be saved; what is found out later changes none of these tensors."""

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Goes on from what was saved."""


class TowardsTarget:
    """The VAE is to take the photo for another picture: ‖z − z*‖² (PhotoGuard, Mist, PID)."""

    counted: CountedDenoiser | None = None

    def prepare(self, latents: Tensor, numbers: Sequence[int], step: int) -> None:
        """Nothing is needed."""

    def gradient(self, latents: Tensor, targets: Tensor | None, numbers: Sequence[int], step: int) -> Tensor:
        """See `Objective`."""
        assert targets is not None
        return _of_unit_length(latents - targets)

    def state(self) -> dict[str, Tensor]:
        """See `Objective`."""
        return {}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """See `Objective`."""


class HardToLearn:
    """The denoising loss is to be large for one prompt, or for whatever the photo may be called (PAP).

    Args:
        spread: whether prompts are drawn from a `PromptDistribution`, or the plain one is taken.
    """

    def __init__(self, denoiser: Denoiser, settings: ProtectionSettings, spread: bool) -> None:
        self.counted = CountedDenoiser(denoiser)
        self._seed = settings.seed
        self._spread = spread
        with torch.no_grad():
            self._conditioning = denoiser.encode([settings.prompt])
        (states,) = denoiser.states(self._conditioning)
        self.distribution = PromptDistribution(states.detach().clone(), states.detach().clone())

    def prepare(self, latents: Tensor, numbers: Sequence[int], step: int) -> None:
        """Lets the mean follow the photos."""
        if self._spread:
            random = generator(self._seed, "prompt descent", step)
            self.distribution.descend(self.counted, latents, *_draws(latents, random), self._told(len(latents)))

    def gradient(self, latents: Tensor, targets: Tensor | None, numbers: Sequence[int], step: int) -> Tensor:
        """See `Objective`."""
        given = latents.detach().clone().requires_grad_()
        noise, t = _draws_of(latents, self._seed, numbers, step)
        losses = self.counted.losses(given, noise, t, self._drawn(len(latents), step))
        return -_of_unit_length(gradient_of(losses, given))

    def state(self) -> dict[str, Tensor]:
        """See `Objective`."""
        found = self.distribution
        return {"mean": found.mean, "numbers": torch.tensor([found.spread, found.step], dtype=torch.float64)}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """See `Objective`."""
        self.distribution.mean = state["mean"].to(self.distribution.start)
        self.distribution.spread, self.distribution.step = state["numbers"].tolist()

    def _told(self, count: int) -> list[object]:
        return list(self._conditioning) * count

    def _drawn(self, count: int, step: int) -> list[object]:
        """The step's prompt for so many photos."""
        if not self._spread:
            return self._told(count)
        states = self.distribution.draw(generator(self._seed, "prompt draw", step))
        return list(self.counted.denoiser.with_states(self._told(count), [states] * count))


class SeenAsTarget(HardToLearn):
    """The VAE is to take the photo for another picture, and so is the denoiser whatever the photo may be called."""

    def gradient(self, latents: Tensor, targets: Tensor | None, numbers: Sequence[int], step: int) -> Tensor:
        """See `Objective`."""
        assert targets is not None
        given = latents.detach().clone().requires_grad_()
        noise, t = _draws_of(latents, self._seed, numbers, step)
        taken_for = self.counted.clean(given, noise, t, self._drawn(len(latents), step))
        losses = (taken_for - targets.to(taken_for)).square().flatten(1).mean(1)
        return _of_unit_length(latents - targets) + _of_unit_length(gradient_of(losses, given))


class MixedPrompts(HardToLearn):
    """The denoising loss is to be large for one of several prompts, another in each step: the plainest way to be ready
    for any."""

    def __init__(self, denoiser: Denoiser, settings: ProtectionSettings) -> None:
        super().__init__(denoiser, settings, spread=False)
        with torch.no_grad():
            self._mixed = denoiser.encode([settings.prompt + addition for addition in ADDITIONS])

    def _drawn(self, count: int, step: int) -> list[object]:
        """See `HardToLearn`."""
        which = int(torch.randint(len(self._mixed), (1,), generator=generator(self._seed, "prompt mix", step)))
        return [self._mixed[which]] * count


class AsReleased(HardToLearn):
    """PAP as its authors' second script computes it, but for what makes its numbers infinite.

    In each step the mean is found anew, by 20 plain steps of gradient on the noise of that step; the standard deviation
    is the *square* of what the paper calls the variance. Here it is at most the spread of the prompt's own states.
    """

    def __init__(self, denoiser: Denoiser, settings: ProtectionSettings) -> None:
        super().__init__(denoiser, settings, spread=True)

    def prepare(self, latents: Tensor, numbers: Sequence[int], step: int) -> None:
        """Finds mean and spread."""
        found = self.distribution
        noise, t = _draws_of(latents, self._seed, numbers, step)
        elements = found.start.numel() * latents[0].numel()
        mean, losses = found.start, []
        for _ in range(PAPER_STEPS):
            states = mean.clone().requires_grad_()
            told = self.counted.denoiser.with_states(self._told(len(latents)), [states] * len(latents))
            loss = self.counted.losses(latents, noise, t, told).mean()
            losses.append(float(loss.detach()))
            mean = (states - PAPER_RATE * elements / PAPER_ELEMENTS * gradient_of(loss, states)).detach()
        with torch.no_grad():
            told = self.counted.denoiser.with_states(self._told(len(latents)), [mean] * len(latents))
            last = float(self.counted.losses(latents, noise, t, told).mean())
        found.mean = mean
        found.spread = min(variance_of(found.start, mean, losses[0] - last) ** 2, float(found.start.std()))


Make = Callable[[Denoiser, ProtectionSettings], Objective]

OBJECTIVES: Mapping[str, Make] = {
    ENCODER: lambda denoiser, settings: TowardsTarget(),
    PROMPTS: lambda denoiser, settings: HardToLearn(denoiser, settings, spread=True),
    BOTH: lambda denoiser, settings: SeenAsTarget(denoiser, settings, spread=True),
    PAPER: AsReleased,
    ONE_PROMPT: lambda denoiser, settings: HardToLearn(denoiser, settings, spread=False),
    PROMPT_MIX: MixedPrompts,
}
"""By method; the one that looks at nothing has none."""


def _draws(latents: Tensor, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """Noise like the latents, and times spread evenly."""
    count = len(latents)
    t = (torch.arange(count) + torch.rand(count, generator=random)) / count
    return torch.randn(latents.shape, generator=random), t.clamp(1e-3, 1 - 1e-3)


def _draws_of(latents: Tensor, seed: int, numbers: Sequence[int], step: int) -> tuple[Tensor, Tensor]:
    """Noise and time of each photo in a step, whoever else is in its batch."""
    randoms = [generator(seed, f"photo noise {number}", step) for number in numbers]
    noise = torch.stack([torch.randn(latents.shape[1:], generator=random) for random in randoms])
    t = torch.cat([torch.rand(1, generator=random) for random in randoms])
    return noise, t.clamp(1e-3, 1 - 1e-3)


def _of_unit_length(gradients: Tensor) -> Tensor:
    """Each picture's gradient with length 1, so that none weighs more than another."""
    lengths = gradients.flatten(1).norm(dim=1).clamp(min=1e-12)
    return gradients / lengths.view(-1, *[1] * (gradients.ndim - 1))
