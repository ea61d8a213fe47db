"""A prefix is used on its own model family only, and its origin is told."""

from __future__ import annotations

import dataclasses

import pytest

from anonymize_faces.prefix import PrefixMismatchError, PrefixRecord, checkpoint_note, require_family
from anonymize_faces.prefix.provenance import MODEL_FAMILIES, fits_family

RECORD = PrefixRecord(family="SDXL", fingerprint="0" * 16)


@pytest.fixture(scope="module")
def encoders(comfy):
    """Keys of the tokens that the host's tokenizers make, by the title of the family."""
    import comfy.text_encoders.flux
    import comfy.text_encoders.sd2_clip
    import comfy.text_encoders.sd3_clip

    tokenizers = {
        "SD1": comfy.sd1_clip.SD1Tokenizer,
        "SD2": comfy.text_encoders.sd2_clip.SD2Tokenizer,
        "SDXL": comfy.sdxl_clip.SDXLTokenizer,
        "SD3": comfy.text_encoders.sd3_clip.SD3Tokenizer,
        "Flux": comfy.text_encoders.flux.FluxTokenizer,
    }
    return {title: frozenset(make().tokenize_with_weights("a cat")) for title, make in tokenizers.items()}


def test_the_families_are_the_hosts(comfy, encoders):
    import comfy.supported_models

    hosts = {name.lower() for name in dir(comfy.supported_models)}
    for family in MODEL_FAMILIES:
        assert encoders[family.title] in family.encoders
        assert family.names - hosts == {family.title.lower()} - hosts  # All but our own short name.


def test_a_prefix_of_one_family_is_refused_by_every_other_and_taken_by_its_own(encoders):
    for family in MODEL_FAMILIES:
        for name in family.names:
            record = dataclasses.replace(RECORD, family=name.upper())
            require_family(record, encoders[family.title])
            for other in encoders.keys() - {family.title}:
                with pytest.raises(PrefixMismatchError, match=rf"learned on {family.title}.*{other}.*choose a prefix"):
                    require_family(record, encoders[other])


def test_sdxls_prefix_serves_its_refiner():
    require_family(RECORD, {"g"})


def test_encoders_of_no_known_family_are_named():
    with pytest.raises(PrefixMismatchError, match="text encoders qwen25_7b"):
        require_family(RECORD, {"qwen25_7b"})


@pytest.mark.parametrize("family", ["", "ClassicModel", "QwenImage"])
def test_a_family_that_is_not_in_the_table_is_left_to_the_check_of_widths(family):
    require_family(dataclasses.replace(RECORD, family=family), {"l"})


@pytest.mark.parametrize("keys", [{"l"}, {"qwen3_4b"}, {"g", "l"}])
def test_a_prefix_of_the_former_demo_model_is_refused_everywhere(keys):
    record = dataclasses.replace(RECORD, family="DemoModel", fingerprint="5cafd1a33877ef6d")
    with pytest.raises(PrefixMismatchError, match=r"former demo model, .*: learn a new one"):
        require_family(record, keys)
    assert [fits_family(record, {"l"}, name) for name in ("ClassicModel", "DemoModel", "SD1")] == [False] * 3


def test_only_another_checkpoint_or_an_unknown_one_gets_a_note():
    assert checkpoint_note(RECORD, "0" * 16) is None
    assert "learned on another checkpoint" in checkpoint_note(RECORD, "1" * 16)
    assert "not known whether" in checkpoint_note(dataclasses.replace(RECORD, fingerprint=""), "1" * 16)
    assert "not known whether" in checkpoint_note(RECORD, "")
