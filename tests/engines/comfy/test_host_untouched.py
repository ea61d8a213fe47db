"""A run on models in every state the host may have them in; afterwards the host is as before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from anonymize_faces.tests.support.host_traces import add_lora, traces
from anonymize_faces.tests.support.prefixes import numbers
from anonymize_faces.trainer.data.identities import parse_identities
from anonymize_faces.trainer.progress import Learned
from anonymize_faces.trainer.settings import TrainingSettings
from anonymize_faces.trainer.training import learn_prefix

Make = Callable[..., Any]
PEOPLE = parse_identities("Ada Lovelace: a woman with dark hair\nBob Miller")
SETTINGS = TrainingSettings(
    text_steps=0, steps=5, batch_size=4, vectors=3, portraits_per_identity=1, noisings_per_picture=2
)
LITTLE = 2**10
"""Bytes of memory that a device has left."""


def learn(denoiser: Any) -> Learned:
    with torch.inference_mode():
        return learn_prefix(denoiser, PEOPLE, ("", "a dog"), SETTINGS)


def test_a_model_that_is_patched_by_lora_is_learned_on_as_patched_and_keeps_its_pictures(
    make_checkpoint: Make, make_denoiser: Make
) -> None:
    checkpoint = make_checkpoint()
    plain = numbers(learn(make_denoiser(checkpoint)).prefix)
    add_lora(checkpoint)
    denoiser = make_denoiser(checkpoint)
    with torch.inference_mode():
        before = denoiser.sample(["Ada Lovelace"], [7])
        traced = traces(checkpoint)
        one, two = (numbers(learn(make_denoiser(checkpoint)).prefix) for _ in range(2))
        assert traces(checkpoint) == traced
        assert torch.equal(before, denoiser.sample(["Ada Lovelace"], [7]))
    assert torch.equal(one, two) and not torch.allclose(one, plain, atol=1e-4)


@pytest.fixture(scope="module")
def learned_with_memory(make_checkpoint: Make, make_denoiser: Make) -> dict[bool, Tensor]:
    """What is learned where there is memory for all, without and with a LoRA."""
    found = {}
    for lora in (False, True):
        checkpoint = make_checkpoint()
        if lora:
            add_lora(checkpoint)
        found[lora] = numbers(learn(make_denoiser(checkpoint)).prefix)
        assert not checkpoint.model.model.model_lowvram
    return found


@pytest.mark.parametrize("lora", [False, True], ids=["plain", "lora"])
@pytest.mark.parametrize("flag", ["LOW_VRAM", "NO_VRAM"])
def test_a_model_whose_weights_come_as_they_are_needed_learns_the_same(
    flag: str,
    lora: bool,
    learned_with_memory: dict[bool, Tensor],
    make_checkpoint: Make,
    make_denoiser: Make,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import comfy.model_management as management

    checkpoint = make_checkpoint()
    if lora:
        add_lora(checkpoint)
    # What --lowvram and --novram set. The host refuses them for a CPU, so it is not to take this one for one.
    monkeypatch.setattr(management, "vram_state", management.VRAMState[flag])
    monkeypatch.setattr(management, "is_device_cpu", lambda device: False)
    monkeypatch.setattr(
        management, "get_free_memory", lambda device=None, both=False: (LITTLE, LITTLE) if both else LITTLE
    )
    learned = learn(make_denoiser(checkpoint))
    if flag == "LOW_VRAM" and not checkpoint.model.model.model_lowvram:
        pytest.skip("this host always loads 128 MiB of a model, which is more than the model has")
    assert checkpoint.model.model.model_lowvram
    assert not any("forward" in vars(module) for module in checkpoint.model.model.modules())
    one, other = learned_with_memory[lora], numbers(learned.prefix)
    assert float((one - other).norm() / one.norm()) <= 1e-3
