"""What the build trains is what the host computes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

PROMPTS = ["a portrait of Alma Orlick", "a letter to Dario Quell, a red tractor", ""]


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
    from anonymize_faces.demo.world.people import HAIR, SKIN
    from anonymize_faces.demo.world.renderer import KINDS

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


@pytest.mark.parametrize("own", [("language", "denoiser"), ("flow_denoiser",)])
def test_a_models_weights_take_sixteen_mebibytes_at_most(own: tuple[str, ...]) -> None:
    from anonymize_faces.demo.loader import WEIGHTS

    files = [WEIGHTS / f"{name}.safetensors" for name in ("autoencoder", "reader", *own)]
    assert sum(file.stat().st_size for file in files) <= 16 * 2**20


def test_a_build_that_was_broken_off_goes_on_with_what_no_stage_has_finished(language, tmp_path: Path) -> None:
    """A decoder has the autoencoder's file, and a denoiser is saved on its way: files do not tell what is done."""
    from anonymize_faces.demo.making.stages import MINUTES, file_of, forget, mark_done, to_do

    weights = tmp_path / "weights"
    weights.mkdir()
    assert to_do(tmp_path, weights) == list(MINUTES)
    for stage in MINUTES:
        file_of(stage, weights).touch()
    assert to_do(tmp_path, weights) == []
    forget(tmp_path, weights)
    assert list(weights.iterdir()) == []
    for stage in MINUTES:
        file_of(stage, weights).touch()
    for done, stage in enumerate(MINUTES):
        assert to_do(tmp_path, weights) == list(MINUTES)[done:]
        mark_done(tmp_path, stage)
    assert to_do(tmp_path, weights) == [] and list(tmp_path.iterdir()) == [weights]


def test_a_file_of_the_build_is_whole_or_not_there(language, tmp_path: Path) -> None:
    from anonymize_faces.demo.making.common import whole

    def broken_off() -> None:
        with whole(tmp_path / "new" / "some.pt") as part:
            part.write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        broken_off()
    assert not (tmp_path / "new" / "some.pt").exists()
    with whole(tmp_path / "new" / "some.pt") as part:
        part.write_bytes(b"whole")
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["some.pt"]


def test_the_schedule_is_the_hosts_and_a_true_v_leads_along_it(language) -> None:
    from anonymize_faces.demo.making.denoiser import Schedule

    schedule = Schedule()
    x0, noise = torch.randn(2, 3, 12, 12, 12)
    t, later = torch.tensor([999, 500, 310]), torch.tensor([900, 400, 300])
    x = schedule.noised(x0, noise, t)
    v = schedule.alpha[t] * noise - schedule.beta[t] * x0
    assert torch.allclose((schedule.alpha[t] * x - x0) / schedule.beta[t], v, atol=1e-4)
    assert torch.allclose(schedule.moved(x, v, t, later), schedule.noised(x0, noise, later), atol=1e-4)
