"""The fingerprint of a CLIP is quick, and the same with a LoRA."""

from __future__ import annotations

import pytest
import torch

from anonymize_faces.prefix import fingerprint
from anonymize_faces.tests.support.text_encoders import FAMILIES, make_clip


@pytest.fixture
def clip(comfy):
    return make_clip("sdxl")


@pytest.fixture
def encoder_fingerprint(comfy):
    from anonymize_faces.engines.comfy.text_encoders import encoder_fingerprint

    return encoder_fingerprint


def test_it_is_what_the_trainer_writes_into_the_record(clip, encoder_fingerprint):
    assert encoder_fingerprint(clip) == fingerprint(clip.cond_stage_model.state_dict())


def test_it_is_computed_once_for_a_model_and_all_its_clones(clip, encoder_fingerprint, monkeypatch):
    known = encoder_fingerprint(clip)
    with monkeypatch.context() as patched:
        # A second look at the weights would fail.
        patched.setattr(type(clip.patcher.model), "state_dict", None)
        assert {encoder_fingerprint(clip.clone()) for _ in range(3)} == {known}


def test_another_model_has_another(clip, encoder_fingerprint):
    other = make_clip("sdxl")
    first = next(weight for weight in other.cond_stage_model.parameters() if weight.ndim == 2)
    first.data = first.data + 1.0
    assert encoder_fingerprint(clip) != encoder_fingerprint(other)


def test_a_protected_clip_has_that_of_its_model(clip, make_prefix, encoder_fingerprint):
    from anonymize_faces.engines.comfy.protected_clip import protect

    prefix = make_prefix(2, **FAMILIES["sdxl"].widths)
    assert encoder_fingerprint(protect(clip, prefix, 0.5)) == encoder_fingerprint(clip)


def test_a_lora_that_is_loaded_does_not_change_it(clip, encoder_fingerprint):
    name = "clip_l.transformer.text_model.encoder.layers.0.mlp.fc1.weight"
    before = clip.cond_stage_model.state_dict()[name].clone()
    with_lora = clip.clone()
    assert with_lora.add_patches({name: ("diff", (torch.ones_like(before),))}, 1.0) == [name]
    with_lora.load_model()
    assert not torch.equal(clip.cond_stage_model.state_dict()[name], before)
    assert encoder_fingerprint(with_lora) == encoder_fingerprint(make_clip("sdxl"))


def test_the_trainer_records_that_of_the_checkpoint_also_with_a_lora(
    make_checkpoint, make_denoiser, encoder_fingerprint
):
    plain = make_denoiser(make_checkpoint()).fingerprint
    checkpoint = make_checkpoint()
    name = "clip_l.transformer.text_model.encoder.layers.0.mlp.fc1.weight"
    before = checkpoint.clip.cond_stage_model.state_dict()[name].clone()
    assert checkpoint.clip.add_patches({name: ("diff", (torch.ones_like(before),))}, 1.0) == [name]
    checkpoint.clip.load_model()
    assert not torch.equal(checkpoint.clip.cond_stage_model.state_dict()[name], before)
    assert make_denoiser(checkpoint).fingerprint == plain == encoder_fingerprint(checkpoint.clip)


def test_weights_that_cannot_be_looked_into_are_not_known(clip, encoder_fingerprint):
    clip.cond_stage_model.to("meta")
    assert encoder_fingerprint(clip) == ""
