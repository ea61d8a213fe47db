"""What the build trains is what the host computes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

PROMPTS = ["a portrait of Alma Orlick", "a stranger with the looks of Pia Quell, a red tractor", ""]


@pytest.fixture(scope="module")
def language(host_modules: None) -> Iterator[object]:
    from anonymize_faces.demo.making import language

    with torch.inference_mode(False):
        yield language


def test_the_text_model_is_trained_through_the_same_sums_as_the_hosts(language) -> None:
    from anonymize_faces.demo.loader import load_clip
    from anonymize_faces.demo.making.denoiser import frozen_encoder

    encoder, tokens = frozen_encoder()
    ids, ends = tokens.batch(PROMPTS)
    clip = load_clip()
    with torch.no_grad():
        ours = encoder(ids)
        for prompt, states, end in zip(PROMPTS, ours, ends, strict=True):
            theirs, pooled = clip.encode_from_tokens(clip.tokenize(prompt), return_pooled=True)
            assert torch.allclose(states, theirs[0], atol=1e-4)
            assert torch.allclose(states[end], pooled[0], atol=1e-4)


def test_the_heads_truth_is_what_the_pictures_show(language) -> None:
    from anonymize_faces.demo.people import HAIR, SKIN
    from anonymize_faces.demo.renderer import KINDS

    pictures = language.sample_pictures(np.random.default_rng(0), 200)
    truth = language.targets(pictures)
    for i, picture in enumerate(pictures):
        assert KINDS[truth["kind"][i]] == picture.kind
        assert truth["is_person"][i] == (picture.looks is not None)
        if picture.looks is None:
            assert truth["hair"][i] == -100
        else:
            assert HAIR[truth["hair"][i]] == picture.looks.hair and SKIN[truth["skin"][i]] == picture.looks.skin
            assert np.allclose(truth["geometry"][i], picture.geometry)


def test_weights_take_sixteen_megabytes_at_most() -> None:
    from anonymize_faces.demo.loader import WEIGHTS

    assert sum(file.stat().st_size for file in WEIGHTS.glob("*.safetensors")) <= 16e6
