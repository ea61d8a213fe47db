"""What can go wrong in the middle of a run: memory that runs out, losses that are not finite, rise or do not fall."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from anonymize_faces.prefix import TrainingError
from anonymize_faces.tests.support.prefixes import numbers
from anonymize_faces.trainer.data.identities import parse_identities
from anonymize_faces.trainer.objective import distances
from anonymize_faces.trainer.progress import Callbacks, Learned, Progress
from anonymize_faces.trainer.reporting.report import describe
from anonymize_faces.trainer.settings import TrainingSettings
from anonymize_faces.trainer.step import MOST_SKIPPED
from anonymize_faces.trainer.training import learn_prefix

Make = Callable[..., Any]
PEOPLE = parse_identities("Ada Lovelace: a woman with dark hair\nBob Miller")
GENERAL = ("", "a red circle", "a dog in the snow")
WINDOW = 10
"""Steps over which losses are compared: fewer than in earnest."""
SETTINGS = TrainingSettings(
    conditional=False,
    text_steps=0,
    general_weight=1.0,
    overshoot=0.0,
    steps=6,
    batch_size=4,
    vectors=3,
    portraits_per_identity=1,
    noisings_per_picture=2,
)


@pytest.fixture
def denoiser(make_checkpoint: Make, make_denoiser: Make) -> Any:
    return make_denoiser(make_checkpoint())


def learn(denoiser: Any, settings: TrainingSettings = SETTINGS, **options: Any) -> Learned:
    with torch.inference_mode():
        return learn_prefix(denoiser, PEOPLE, GENERAL, settings, Callbacks(**options))


def on_predict(denoiser: Any, change: Callable[[int, Tensor, Tensor], Tensor]) -> None:
    """Changes what the student predicts: `change(number of its call, noised pictures, prediction)`, which may raise."""
    predict, calls = denoiser.predict, [0]

    def changed(noised: Tensor, t: Tensor, conditioning: Any) -> Tensor:
        predicted = predict(noised, t, conditioning)
        if not torch.is_grad_enabled() or not noised.any():  # The plan's dry step has no noise.
            return predicted
        calls[0] += 1
        return change(calls[0], noised, predicted)

    denoiser.predict = changed


def vectors(learned: Learned) -> Tensor:
    return numbers(learned.prefix)


@pytest.mark.parametrize(("room", "conditional"), [(1, False), (2, True), (3, False)])
def test_when_memory_runs_out_the_batch_is_taken_in_parts_and_the_prefix_is_the_same(
    room: int, conditional: bool, denoiser: Any
) -> None:
    import comfy.model_management

    settings = dataclasses.replace(SETTINGS, conditional=conditional)
    expected = learn(denoiser, settings)
    taken: list[int] = []

    def lack(call: int, noised: Tensor, predicted: Tensor) -> Tensor:
        if len(noised) > room:
            raise comfy.model_management.OOM_EXCEPTION("Allocation on device")
        taken.append(len(noised))
        return predicted

    on_predict(denoiser, lack)
    learned = learn(denoiser, settings)
    assert set(taken) <= {1, 2} and sum(taken) == SETTINGS.steps * SETTINGS.batch_size
    torch.testing.assert_close(vectors(learned), vectors(expected), rtol=1e-3, atol=1e-4)
    assert f"took its batch in parts of {min(room, 2)}" in describe(learned)


@pytest.mark.parametrize("text_steps", [0, 3])
def test_a_run_that_goes_on_takes_parts_as_small_as_it_took_before(
    text_steps: int, denoiser: Any, tmp_path: Path
) -> None:
    settings = dataclasses.replace(SETTINGS, text_steps=text_steps)
    taken: list[int] = []

    def lack(call: int, noised: Tensor, predicted: Tensor) -> Tensor:
        taken.append(len(noised))
        if len(noised) > 2:
            raise MemoryError
        return predicted

    def cancel(progress: Progress) -> None:
        if progress.steps == 2:
            raise KeyboardInterrupt

    on_predict(denoiser, lack)
    with pytest.raises(KeyboardInterrupt):
        learn_prefix(denoiser, PEOPLE, GENERAL, settings, Callbacks(cancel), runs=tmp_path)
    taken.clear()
    learn_prefix(denoiser, PEOPLE, GENERAL, settings, runs=tmp_path)
    assert taken == [2] * (2 * (SETTINGS.steps - 2))


def test_a_run_broken_off_before_its_first_step_takes_whole_batches(denoiser: Any, tmp_path: Path) -> None:
    settings = dataclasses.replace(SETTINGS, text_steps=3)
    taken: list[int] = []

    def count(call: int, noised: Tensor, predicted: Tensor) -> Tensor:
        taken.append(len(noised))
        return predicted

    def cancel() -> None:
        if (next(tmp_path.iterdir(), tmp_path) / "targets.safetensors").exists():
            raise KeyboardInterrupt

    on_predict(denoiser, count)
    with pytest.raises(KeyboardInterrupt):
        learn_prefix(denoiser, PEOPLE, GENERAL, settings, Callbacks(check=cancel), runs=tmp_path)
    learn_prefix(denoiser, PEOPLE, GENERAL, settings, runs=tmp_path)
    assert taken == [SETTINGS.batch_size] * SETTINGS.steps


def test_drawing_and_teaching_need_less_at_once_when_memory_runs_out(denoiser: Any) -> None:
    expected = learn(denoiser)
    sample, predict = denoiser.sample, denoiser.predict

    def tight(do: Callable[..., Any]) -> Callable[..., Any]:
        def work(first: Any, *rest: Any) -> Any:
            if len(first) > 1 and not torch.is_grad_enabled():
                raise MemoryError
            return do(first, *rest)

        return work

    denoiser.sample, denoiser.predict = tight(sample), tight(predict)
    torch.testing.assert_close(vectors(learn(denoiser)), vectors(expected), rtol=1e-3, atol=1e-3)


def test_a_picture_for_which_memory_never_suffices_is_an_error_with_a_remedy(denoiser: Any) -> None:
    def lack(call: int, noised: Tensor, predicted: Tensor) -> Tensor:
        raise MemoryError

    on_predict(denoiser, lack)
    with pytest.raises(TrainingError, match="smaller width and height"):
        learn(denoiser)


def test_other_errors_are_not_taken_for_a_lack_of_memory(denoiser: Any) -> None:
    def fail(call: int, noised: Tensor, predicted: Tensor) -> Tensor:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    on_predict(denoiser, fail)
    with pytest.raises(RuntimeError, match="mat1"):
        learn(denoiser)


def test_a_step_whose_loss_is_not_finite_is_skipped_and_told(denoiser: Any) -> None:
    on_predict(denoiser, lambda call, noised, predicted: predicted * (math.nan if call in (2, 3) else 1.0))
    learned = learn(denoiser)
    assert [math.isnan(losses.identities) for losses in learned.history] == [False, True, True, False, False, False]
    assert torch.isfinite(vectors(learned)).all()
    assert "2 steps were skipped, because the loss or its gradient was not finite" in describe(learned)


def test_a_skipped_step_moves_nothing_but_lowers_the_rate(denoiser: Any) -> None:
    """The same slots, at half the rate, give half the way of the very first step of Adam."""
    from anonymize_faces.engines.micro_batches import MicroBatches
    from anonymize_faces.trainer.data.pictures import Pair, Pictures
    from anonymize_faces.trainer.data.targets import TargetPool
    from anonymize_faces.trainer.start import start_vectors
    from anonymize_faces.trainer.state import new_state
    from anonymize_faces.trainer.step import make_step

    settings = dataclasses.replace(SETTINGS, warmup=1.0)
    pictures = Pictures(torch.randn(1, *denoiser.latent_shape), (Pair("Ada", "a woman", True),))
    on_predict(denoiser, lambda call, noised, predicted: predicted * (math.inf if call == 1 else 1.0))
    with denoiser.gradients(1):
        batch = TargetPool(denoiser, pictures, 1, 0).batch([0])
        state = new_state(start_vectors(denoiser, settings), settings)
        start = state.vectors["l"].detach().clone()
        make_step(denoiser, state, batch, settings, MicroBatches(denoiser, 1))
        assert torch.equal(state.vectors["l"], start) and state.rate == 0.5
        assert not state.optimizer.state
        make_step(denoiser, state, batch, settings, MicroBatches(denoiser, 1))
    assert not torch.equal(state.vectors["l"], start) and state.skipped == 1 and state.skipped_in_a_row == 0


def test_a_gradient_that_overflows_is_scaled_down_and_the_rate_stays(denoiser: Any) -> None:
    class Overflows(torch.autograd.Function):
        @staticmethod
        def forward(context: Any, predicted: Tensor) -> Tensor:
            return predicted.clone()

        @staticmethod
        def backward(context: Any, gradient: Tensor) -> Tensor:
            return torch.where(gradient.abs().max() > 1e-2, gradient * math.inf, gradient)

    settings = dataclasses.replace(SETTINGS, steps=12)
    expected = learn(denoiser, settings)
    on_predict(denoiser, lambda call, noised, predicted: Overflows.apply(predicted))
    learned = learn(denoiser, settings)
    skipped = [math.isnan(losses.identities) for losses in learned.history]
    assert skipped[0] and not any(skipped[4:])
    assert learned.history[-1].identities < 2 * expected.history[-1].identities


def test_a_loss_that_is_never_finite_is_an_error_with_a_remedy(denoiser: Any) -> None:
    on_predict(denoiser, lambda call, noised, predicted: predicted * math.nan)
    with pytest.raises(TrainingError, match="lower the learning rate"):
        learn(denoiser, dataclasses.replace(SETTINGS, steps=50))


def test_a_loss_that_is_no_longer_finite_ends_the_run_with_the_best_prefix_so_far(denoiser: Any) -> None:
    on_predict(denoiser, lambda call, noised, predicted: predicted * (math.nan if call > 4 else 1.0))
    learned = learn(denoiser, dataclasses.replace(SETTINGS, steps=50))
    assert len(learned.history) == 4 + MOST_SKIPPED and torch.isfinite(vectors(learned)).all()
    assert f"was not finite for {MOST_SKIPPED} steps in a row" in describe(learned)


@pytest.mark.parametrize(
    ("loss", "windows", "words"),
    [
        (lambda step: 1.0 if step < WINDOW else 4.0, 2, "The loss rose before step 20: the learning rate was halved"),
        (lambda step: 1.0 + step / (20 * WINDOW), 5, "The loss had not fallen by step 50: the learning rate was"),
        (lambda step: 1.0 - step / (20 * WINDOW), 5, ""),
    ],
    ids=["rises", "does not fall", "falls"],
)
def test_a_loss_that_rises_or_does_not_fall_is_told(
    loss: Callable[[int], float], windows: int, words: str, denoiser: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anonymize_faces.trainer.step.WINDOW", WINDOW)
    steps = iter(range(windows * WINDOW))
    monkeypatch.setattr(
        "anonymize_faces.trainer.step.distances",
        lambda student, teacher: distances(student, teacher) * 0 + loss(next(steps)),
    )
    learned = learn(denoiser, dataclasses.replace(SETTINGS, steps=windows * WINDOW, batch_size=1, vectors=1))
    assert words in describe(learned) and ("learning rate was halved" in describe(learned)) is bool(words)
