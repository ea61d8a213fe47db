"""What is done where memory lacks, in order: blocks twice, half batches, then weights that come as they are needed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from anonymize_faces.engines.micro_batches import MicroBatches
from anonymize_faces.prefix import TrainingError
from anonymize_faces.tests.support.host_traces import add_lora, traces
from anonymize_faces.tests.support.prefixes import numbers
from anonymize_faces.trainer.data.identities import parse_identities
from anonymize_faces.trainer.progress import Learned
from anonymize_faces.trainer.settings import TrainingSettings
from anonymize_faces.trainer.training import COMPUTED_TWICE, STREAMED, learn_prefix

Make = Callable[..., Any]
PEOPLE = parse_identities("Ada Lovelace: a woman with dark hair\nBob Miller")
SETTINGS = TrainingSettings(
    text_steps=0, steps=6, batch_size=4, vectors=3, portraits_per_identity=1, noisings_per_picture=2
)


def on_another_device(checkpoint: Any) -> Any:
    """The checkpoint, whose weights lie on what the host takes for another device than the one that computes."""
    for patcher in (checkpoint.model, checkpoint.clip.patcher):
        patcher.offload_device = torch.device("cpu", 0)
    return checkpoint


def short_of_memory(denoiser: Any, room: int, what: list[str]) -> Any:
    """Learning needs more than there is, until no more than so many bytes of weights are loaded."""
    predict, encode = denoiser.predict, denoiser.encode

    def loaded() -> int:
        return denoiser._model.loaded_size() + denoiser._clip.patcher.loaded_size()

    def tight(noised: Tensor, *rest: Any) -> Tensor:
        predicted = predict(noised, *rest)
        if torch.is_grad_enabled() and loaded() > room:
            what.append(f"{len(noised)} {'twice' if denoiser.saves_memory else 'once'}")
            raise MemoryError
        return predicted

    denoiser.predict, denoiser.encode = tight, encode
    return denoiser


def learn(denoiser: Any) -> Learned:
    with torch.inference_mode():
        return learn_prefix(denoiser, PEOPLE, ("", "a dog"), SETTINGS)


@pytest.mark.parametrize("lora", [False, True], ids=["plain", "lora"])
def test_weights_leave_the_device_last_and_the_prefix_is_the_same(
    lora: bool, make_checkpoint: Make, make_denoiser: Make
) -> None:
    found: list[Learned] = []
    for room in (None, 40_000):
        with torch.inference_mode():
            checkpoint = on_another_device(make_checkpoint())
            if lora:
                add_lora(checkpoint)
            denoiser, what = make_denoiser(checkpoint), list[str]()
            before = denoiser.sample(["Ada Lovelace"], [7])
            traced = traces(checkpoint)
        if room is not None:
            short_of_memory(denoiser, room, what)
        found.append(learn(denoiser))
        assert denoiser.streams_weights == checkpoint.model.model.model_lowvram == (room is not None)
        with torch.inference_mode():
            assert traces(checkpoint) == traced
            after = denoiser.sample(["Ada Lovelace"], [7])
            torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-5)
            if room is None:
                assert torch.equal(before, after)
    # One picture of the dry step, before anything is drawn: once, twice, then with fewer weights there each time.
    assert what[:2] == ["1 once", "1 twice"] and set(what[2:]) == {"1 twice"} and len(what) < 12
    torch.testing.assert_close(*(numbers(learned.prefix) for learned in found), rtol=1e-3, atol=1e-4)
    for told in (COMPUTED_TWICE, STREAMED):
        assert [told in learned.notes for learned in found] == [False, True]


def test_half_batches_come_before_weights_leave_the_device(make_checkpoint: Make, make_denoiser: Make) -> None:
    denoiser = make_denoiser(on_another_device(make_checkpoint()))
    happened: list[str] = []

    def work(items: Any) -> None:
        happened.append(f"{len(items)}{' streamed' if denoiser.streams_weights else ''}")
        if not denoiser.streams_weights:
            raise MemoryError

    with denoiser.gradients(4):
        MicroBatches(denoiser, 4).work(work, range(4))
    assert happened == ["4", "4", "2", "1", *["1 streamed"] * 4]


def test_nothing_is_streamed_where_it_would_be_kept_or_where_there_is_nowhere_to_go(
    make_checkpoint: Make,
) -> None:
    from anonymize_faces.engines.comfy.denoiser import ComfyDenoiser, Computing

    def fails(items: Any) -> None:
        raise MemoryError

    for checkpoint, choice in ((on_another_device(make_checkpoint()), "off"), (make_checkpoint(), "auto")):
        parts = (checkpoint.model, checkpoint.clip, checkpoint.vae)
        denoiser = ComfyDenoiser(*parts, (64, 64), computing=Computing(checkpointing=choice))
        with denoiser.gradients(1), pytest.raises(TrainingError, match="not enough memory for a single picture"):
            MicroBatches(denoiser, 1).work(fails, [0])
        assert not denoiser.streams_weights and not checkpoint.model.model.model_lowvram
        assert denoiser.stream_weights() is False


def test_weights_that_were_moved_stay_away_in_the_next_part_of_a_run(
    make_checkpoint: Make, make_denoiser: Make
) -> None:
    denoiser = make_denoiser(on_another_device(make_checkpoint()))
    with denoiser.gradients(1):
        assert denoiser.use_less_memory() and denoiser.stream_weights() and denoiser.stream_weights()
        left = denoiser._model.loaded_size(), denoiser._clip.patcher.loaded_size()
    with denoiser.gradients(1):
        again = denoiser._model.loaded_size(), denoiser._clip.patcher.loaded_size()
    assert again[0] <= left[0] and again[1] <= left[1] and again[0] < denoiser._model.model_size()
