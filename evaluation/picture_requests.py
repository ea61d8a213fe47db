"""Lists what an evaluation draws: the prompt, noise and subject of each picture."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..faces.gallery import STRANGER
from ..runs.seeds import derived_seed
from ..trainer.data.identities import Identity
from .settings import NAME, EvaluationSettings


@dataclass(frozen=True)
class PictureRequest:
    """One picture to draw: the prompt, the seed of its noise, whom it is to show and their looks."""

    prompt: str
    seed: int
    person: int = STRANGER
    description: str = ""


def portraits(
    identities: Sequence[Identity],
    settings: EvaluationSettings,
    people: Iterable[int] | None = None,
    noise: str = "portraits",
) -> list[PictureRequest]:
    """Pictures that name people, all of one after all of another.

    Args:
        people: places in `identities`; None for all.
        noise: what it is for. The same picture for another purpose has another noise.
    """
    return [
        PictureRequest(prompt, seed, person, identities[person].description)
        for person in (range(len(identities)) if people is None else people)
        for prompt in (prompt.replace(NAME, identities[person].name) for prompt in settings.prompts)
        for seed in _seeds(settings, noise, prompt, settings.images_per_name)
    ]


def strangers(identities: Sequence[Identity], settings: EvaluationSettings) -> list[PictureRequest]:
    """Pictures of somebody of each person's described looks, by the first prompt."""
    prompt = settings.prompts[0]
    return [
        PictureRequest(prompt.replace(NAME, identity.description), seed)
        for number, identity in enumerate(identities)
        for seed in _seeds(settings, f"stranger {number}", prompt, settings.strangers)
    ]


def general(settings: EvaluationSettings, noise: str = "general") -> list[PictureRequest]:
    """Pictures of the prompts that name nobody; `noise` as in `portraits`."""
    return [
        PictureRequest(prompt, seed)
        for prompt in settings.general_prompts
        for seed in _seeds(settings, noise, prompt, settings.images_per_prompt)
    ]


def _seeds(settings: EvaluationSettings, noise: str, prompt: str, count: int) -> list[int]:
    return [derived_seed(settings.seed, f"evaluation/{noise}/{prompt}", index) for index in range(count)]
