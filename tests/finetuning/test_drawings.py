"""Drawings under way: where they go, that they come in turn, and that a run on them goes on where it was broken off."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

from anonymize_faces.engines.denoiser import LORA
from anonymize_faces.finetuning.distillation import Distillation, answers_of
from anonymize_faces.finetuning.drawings import EDGE, Drawings, DrawnStates, moved_by
from anonymize_faces.finetuning.loop import finetuned
from anonymize_faces.finetuning.progress import FinetuningCallbacks
from anonymize_faces.finetuning.settings import FinetuningSettings
from anonymize_faces.finetuning.training_set import TrainingSet
from anonymize_faces.prefix import TrainingError
from anonymize_faces.tests.support.breaking_off import BrokenOffError

Make = Callable[..., Any]
CAPTIONS = ("a photo of sks person", "sks person in a garden", "a house")


@pytest.mark.parametrize("parameterization", ["EPS", "V_PREDICTION", "FLOW"])
def test_the_true_answer_leads_to_the_same_picture_with_less_noise(
    parameterization: str, make_checkpoint: Make, make_denoiser: Make
) -> None:
    denoiser = make_denoiser(make_checkpoint(parameterization))
    latents, noise = torch.randn(2, 3, *denoiser.latent_shape, generator=torch.Generator().manual_seed(0))
    t, later = torch.tensor([0.9, 0.5, 0.2]), torch.tensor([0.7, 0.1, EDGE])
    answers = denoiser.target(latents, noise, t)
    moved = moved_by(denoiser, denoiser.add_noise(latents, noise, t), t, later, answers)
    assert torch.allclose(moved, denoiser.add_noise(latents, noise, later), rtol=1e-3, atol=1e-3)


def test_drawings_are_at_all_times_begin_anew_and_come_equally_often(
    make_checkpoint: Make, make_denoiser: Make
) -> None:
    denoiser = make_denoiser(make_checkpoint("V_PREDICTION"))
    drawings = Drawings(denoiser, CAPTIONS, steps=6, at_once=2, seed=0)
    drawings.begin_apart(torch.zeros(3, *denoiser.latent_shape), CAPTIONS)
    times, begun, told, copy = [], [], [], None
    for step in range(100):
        states = drawings.states(step)
        assert bool((states.later < states.t).all()) and len(states.captions) == 2
        times += states.t.tolist()
        begun += (states.t > 0.99).tolist()
        told += [caption for caption, new in zip(states.captions, (states.t > 0.99).tolist(), strict=True) if new]
        if step == 50:
            copy = Drawings(denoiser, CAPTIONS, steps=6, at_once=2, seed=0)
            assert copy.restore(drawings.tensors())
        drawings.go_on(states, torch.zeros_like(states.noised))
        if copy is not None:
            again = copy.states(step)
            assert torch.equal(again.noised, states.noised) and again.captions == states.captions
            copy.go_on(again, torch.zeros_like(states.noised))
    assert 0.1 < sum(begun) / len(begun) < 0.4, "a drawing has three to six steps"
    assert all(any(low < time <= low + 0.25 for time in times[:20]) for low in (0, 0.25, 0.5, 0.75))
    counts = [told.count(caption) for caption in CAPTIONS]
    assert max(counts) - min(counts) <= 3
    assert not drawings.restore({"noised": torch.zeros(1)})
    states = drawings.states(0)
    drawings.go_on(states, torch.full_like(states.noised, torch.nan))
    assert bool(drawings.states(0).noised.isfinite().all()), "what has no numbers begins anew"
    with pytest.raises(TrainingError, match="no prompt"):
        Drawings(denoiser, (), 6, 2, 0)


def test_guidance_is_that_of_the_sampler(make_checkpoint: Make, make_denoiser: Make) -> None:
    denoiser = make_denoiser(make_checkpoint())
    noised = torch.randn(1, *denoiser.latent_shape, generator=torch.Generator().manual_seed(0))
    with denoiser.gradients(2), torch.no_grad():
        said, nothing = denoiser.encode(["a house", ""])
        told, untold = (denoiser.predict(noised, torch.tensor([0.5]), [one]) for one in (said, nothing))
        answers = answers_of(denoiser, noised, torch.tensor([0.5]), [said], nothing, 3.0)
        alone = answers_of(denoiser, noised, torch.tensor([0.5]), [said], nothing, 1.0)
    assert torch.allclose(answers.guided, 3 * told - 2 * untold, atol=1e-4)
    assert torch.allclose(answers.conditional, told, atol=1e-4) and torch.allclose(alone.guided, told, atol=1e-4)


def test_distillation_goes_on_where_it_was_broken_off(
    tmp_path: Path, make_checkpoint: Make, make_denoiser: Make
) -> None:
    denoiser = make_denoiser(make_checkpoint("V_PREDICTION"))
    training_set = TrainingSet(torch.randn(3, *denoiser.latent_shape), CAPTIONS)
    settings = FinetuningSettings(kind=LORA, steps=6, batch_size=2, learning_rate=1e-2, rank=2, snapshot_every=2)
    # Told to answer as with weights that are not there, or there would be nothing to learn.
    network = denoiser._model.model.diffusion_model

    def weakened() -> Any:
        return Weakened(network)

    def learned(runs: Path | None, breaks: int) -> tuple[dict[str, torch.Tensor], tuple[float, ...]]:
        def report(step: int, *_: Any) -> None:
            if step == breaks:
                raise BrokenOffError

        distilled = Distillation(weakened, "weakened", guidance=2.0, steps=4)
        callbacks = FinetuningCallbacks(report=report)
        with (
            torch.inference_mode(),  # As the host runs nodes.
            finetuned(denoiser, training_set, settings, callbacks, runs, distilled) as tuned,
        ):
            return dict(tuned.weights), tuned.history

    whole, losses = learned(None, 0)
    assert len(losses) == 6 and all(loss > 0 for loss in losses)
    with pytest.raises(BrokenOffError):
        learned(tmp_path, 3)
    again, _ = learned(tmp_path, 0)
    assert all(torch.allclose(whole[name], again[name], atol=1e-6) for name in whole)
    assert any(weight.any() for name, weight in whole.items() if "down" in name)


def test_drawings_end_at_a_time(monkeypatch: pytest.MonkeyPatch, make_checkpoint: Make, make_denoiser: Make) -> None:
    denoiser = make_denoiser(make_checkpoint("V_PREDICTION"))
    training_set = TrainingSet(torch.randn(3, *denoiser.latent_shape), CAPTIONS)
    settings = FinetuningSettings(kind=LORA, steps=8, batch_size=4, learning_rate=1e-9, rank=2)
    network = denoiser._model.model.diffusion_model
    went_on: list[DrawnStates] = []
    own = Drawings.go_on

    def go_on(self: Drawings, states: DrawnStates, answers: torch.Tensor) -> None:
        went_on.append(states)
        own(self, states, answers)

    monkeypatch.setattr(Drawings, "go_on", go_on)
    lowest = []
    for until in (0.0, 0.5, 1.0):
        went_on.clear()
        distilled = Distillation(lambda: Weakened(network), "weakened", 2.0, 4, until=until)
        with finetuned(denoiser, training_set, settings, distillation=distilled) as tuned:
            assert min(tuned.history) > 0
        times = torch.cat([states.t for states in went_on])
        later = torch.cat([states.later for states in went_on])
        assert bool(((later == 0) | (later > until)).all()) and bool((later == 0).any())
        lowest.append(float(times.min()))
    assert lowest[0] < 0.5 < lowest[1] < lowest[2]


class Weakened(nullcontext[None]):
    """Has a network answer half of what it does."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self._network = network

    def __enter__(self) -> None:
        self._handle = self._network.register_forward_hook(lambda module, given, answer: answer / 2)

    def __exit__(self, *_: object) -> None:
        self._handle.remove()
