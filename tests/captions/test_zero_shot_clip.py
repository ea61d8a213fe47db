"""CLIP as a reader, for real with random weights: its path, its arithmetic, and folders that lack something.

How well a trained CLIP reads real faces is not measured: none can be had here.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load, save_file

from anonymize_faces.captions.attributes import PICTURE, VOCABULARY
from anonymize_faces.captions.calibration import FILE, tempered
from anonymize_faces.captions.describing import DescribingSettings, describe, in_order
from anonymize_faces.captions.readers import read_checked
from anonymize_faces.captions.zero_shot_clip import load_clip_reader, sentences_of
from anonymize_faces.faces.facenet import load_mtcnn
from anonymize_faces.prefix.errors import DescriptionError
from anonymize_faces.tests.support.tiny_clip import write_tiny_clip


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, host: Path) -> Path:
    return write_tiny_clip(tmp_path_factory.mktemp("clip") / "tiny", host)


@pytest.fixture
def copy(model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(model, tmp_path / "copy"))


def reader_of(folder: Path, attributes: str = "", **more):
    return load_clip_reader(folder, attributes, lambda network: None, **more)


@pytest.fixture
def pictures(astronaut) -> list[np.ndarray]:
    return [astronaut, astronaut[:200, :100], np.zeros((7, 9, 3), np.uint8)]


def test_it_reads_probabilities_of_every_attribute(model, pictures):
    reader = reader_of(model, ", ".join(one.name for one in VOCABULARY), only_photographs=True)
    read = read_checked(reader, pictures)
    assert read.keys() == {one.name for one in VOCABULARY} | {PICTURE.name}
    assert all(np.allclose(rows.sum(1), 1, atol=1e-4) for rows in read.values())
    assert not np.allclose(read["hair"][0], read["hair"][2])
    alone = [read_checked(reader, [picture])["hair"][0] for picture in pictures]
    assert np.allclose(alone, read["hair"], atol=1e-5)


def test_its_answer_is_the_softmax_over_mean_directions_of_the_templates(model, pictures):
    from transformers import AutoTokenizer, CLIPModel

    (glasses,) = (one for one in VOCABULARY if one.name == "glasses")
    network, tokenizer = CLIPModel.from_pretrained(model).eval(), AutoTokenizer.from_pretrained(model)
    rows = []
    with torch.no_grad():
        for sentences in sentences_of(glasses):
            tokens = tokenizer(sentences, padding=True, return_tensors="pt")
            found = network.text_projection(network.text_model(**tokens).pooler_output)
            rows.append((found / found.norm(dim=-1, keepdim=True)).mean(0))
        words = torch.stack([row / row.norm() for row in rows])
        from torchvision.transforms.functional import normalize

        from anonymize_faces.captions.crops import resized
        from anonymize_faces.captions.zero_shot_clip import MEAN, SPREAD

        pixels = torch.from_numpy(resized(pictures[0], 32, 32)).permute(2, 0, 1)[None].float() / 255
        seen = network.visual_projection(network.vision_model(normalize(pixels, MEAN, SPREAD)).pooler_output)
        wanted = (network.logit_scale.exp() * seen / seen.norm() @ words.T).softmax(-1)[0].numpy()
    assert np.allclose(reader_of(model, "glasses").read(pictures[:1])["glasses"][0], wanted, atol=1e-4)


def test_each_answer_is_put_into_every_template_as_somebody():
    for attribute in (*VOCABULARY, PICTURE):
        sentences = sentences_of(attribute)
        assert len(sentences) == len(attribute.answers) and len({s for some in sentences for s in some}) == sum(
            map(len, sentences)
        )
    (hair,) = (one for one in VOCABULARY if one.name == "hair")
    assert sentences_of(hair)[0][0] == "a photo of a person with black hair"


def test_a_photograph_is_described_with_it_from_finding_the_face_on(model, astronaut):
    finder, reader = load_mtcnn(lambda network: None), reader_of(model, "usual, expression")
    settings = DescribingSettings(certainty=0.5)
    one, nothing = in_order(describe(enumerate([astronaut, np.zeros_like(astronaut)]), finder, reader, settings))
    assert one.caption.startswith("a ") and one.crop.shape[0] < astronaut.shape[0]
    assert nothing.finding == "no face was found"


def test_nothing_but_what_a_command_says_is_shown_while_it_loads(copy, capfd):
    from transformers.utils import logging

    logging.enable_progress_bar()
    reader_of(copy)
    assert "Loading" not in capfd.readouterr().err and logging.is_progress_bar_enabled()


def test_a_calibration_that_lies_there_is_used(copy, pictures):
    plain = reader_of(copy, "hair, eyes")
    (copy / FILE).write_text(json.dumps({"temperatures": {"hair": 4.0}}), encoding="utf-8")
    calibrated = reader_of(copy, "hair, eyes")
    read, cooler = plain.read(pictures), calibrated.read(pictures)
    assert np.allclose(cooler["hair"], tempered(read["hair"], 4.0))
    assert plain.name.endswith(", not calibrated") and calibrated.name == plain.name.replace(", not", ",")
    assert np.allclose(cooler["eyes"], read["eyes"], atol=1e-6)
    for damaged in ("{", '{"temperatures": {"hair": "warm"}}', '{"temperatures": {"hair": 0}}', "[]"):
        (copy / FILE).write_text(damaged, encoding="utf-8")
        with pytest.raises(DescriptionError, match="calibrate anew"):
            reader_of(copy)


def test_a_model_that_is_not_there_is_a_sentence_that_says_which_files_go_where(copy):
    with pytest.raises(DescriptionError, match=r"no CLIP model in .*nowhere.*config.json, model.safetensors"):
        reader_of(copy / "nowhere")
    for name in ("model.safetensors", "config.json", "vocab.json"):
        (copy / name).rename(copy / "away")
        with pytest.raises(DescriptionError, match=f"{name.replace('vocab', 'tokenizer')} is missing"):
            reader_of(copy)
        (copy / "away").rename(copy / name)


def test_a_text_encoder_without_its_projection_is_refused_and_not_guessed_at(copy):
    weights = load((copy / "model.safetensors").read_bytes())
    for name in ("text_projection.weight", "visual_projection.weight", "logit_scale"):
        save_file({key: value for key, value in weights.items() if key != name}, copy / "model.safetensors")
        with pytest.raises(DescriptionError, match=f"lacks {name}"):
            reader_of(copy)


def test_other_and_damaged_models_are_refused(copy):
    weights = load((copy / "model.safetensors").read_bytes())
    whole = (copy / "model.safetensors").read_bytes()
    some = next(name for name in weights if "mlp" in name)
    for wrong, words in (
        (whole[: len(whole) // 2], "cannot be read"),
        (b"", "cannot be read"),
        ({**weights, some: weights[some] * float("nan")}, "no numbers"),
        ({name: tensor for name, tensor in weights.items() if name != some}, "does not fit"),
    ):
        if isinstance(wrong, bytes):
            (copy / "model.safetensors").write_bytes(wrong)
        else:
            save_file(wrong, copy / "model.safetensors")
        with pytest.raises(DescriptionError, match=words):
            reader_of(copy)
    for config, words in (('{"model_type": "siglip"}', "type 'siglip'"), ("{", "damaged"), ("[]", "damaged")):
        (copy / "config.json").write_text(config, encoding="utf-8")
        with pytest.raises(DescriptionError, match=words):
            reader_of(copy)
