"""CLIP score, FID and KID through torchmetrics, with networks of our own: the published weights cannot be had here."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from anonymize_faces.evaluation import quality
from anonymize_faces.evaluation.job import evaluate
from anonymize_faces.evaluation.quality import Quality, clip_features, load_quality
from anonymize_faces.evaluation.settings import BOTH, CLIP, INCEPTION, EvaluationSettings
from anonymize_faces.prefix import MeasurementError, WeightsError
from anonymize_faces.tests.support.painter import PEOPLE, ColourRecognizer, Painter, prefix_of_effect

SETTINGS = EvaluationSettings(general_prompts=("a wall", "a door"), images_per_name=1, images_per_prompt=8)


class MeanColour(torch.nn.Module):
    """Features of a picture: its mean colour."""

    num_features = 3

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return pictures.double().mean((2, 3)) / 255


def nothing(*_: object) -> None:
    pass


def colours(seed: int, count: int = 40, shift: float = 0.0) -> np.ndarray:
    flat = np.random.default_rng(seed).uniform(0.2, 0.6, (count, 1, 1, 3)) + shift
    return np.broadcast_to(np.round(flat * 255).astype(np.uint8), (count, 4, 4, 3)).copy()


def frechet(some: np.ndarray, others: np.ndarray) -> float:
    """The distance of two normal distributions, from its definition."""
    first, second = (pictures[:, 0, 0].astype(np.float64) / 255 for pictures in (some, others))
    roots = np.linalg.eigvals(np.cov(first.T) @ np.cov(second.T))
    covariances = np.trace(np.cov(first.T)) + np.trace(np.cov(second.T)) - 2 * np.sqrt(roots.astype(complex)).real.sum()
    return float(np.square(first.mean(0) - second.mean(0)).sum() + covariances)


def test_fid_is_the_distance_of_the_features_as_normal_distributions():
    plain, moved = colours(1), colours(2, shift=0.3)
    quality_scores = Quality(MeanColour(), None)
    for start in range(0, 40, 8):
        some = slice(start, start + 8)
        quality_scores.add(moved[some], ["a wall"] * 8, plain[some])
    found = quality_scores.scores(against_itself=False)
    assert found.fid == pytest.approx(frechet(plain, moved), rel=1e-3)
    assert found.kid > 0 and found.clip_score is None
    quality_scores.reset()
    quality_scores.add(plain, ["a wall"] * 40, plain)
    assert abs(quality_scores.scores(against_itself=False).fid) < 1e-6


def test_real_pictures_of_any_sizes_stay_what_all_columns_are_compared_with():
    real = [np.repeat(picture, 1 + index % 3, 0) for index, picture in enumerate(colours(3))]
    quality_scores = Quality(MeanColour(), None, real)
    for pictures in (colours(4), colours(5, shift=0.2)):
        quality_scores.reset()
        quality_scores.add(pictures, ["a wall"] * 40, pictures)
        assert quality_scores.scores(against_itself=True).fid == pytest.approx(frechet(colours(3), pictures), rel=1e-3)
    assert "40 real pictures" in quality_scores.name


def test_columns_of_an_evaluation_get_their_quality():
    painter = Painter()
    found = evaluate(
        painter,
        ColourRecognizer(),
        PEOPLE,
        {"whole": prefix_of_effect(1.0), "nothing": prefix_of_effect(0.0)},
        SETTINGS,
        drawing={},
        quality=Quality(MeanColour(), None),
    )
    plain, whole, unmoved = (column.scores for column in found.columns)
    assert plain.fid is None and plain.kid is None
    assert whole.fid > 0.01 > abs(unmoved.fid)
    assert any("FID and KID of 16 pictures say little" in note for note in found.notes)
    assert "the plain model's pictures" in found.quality


@pytest.fixture(scope="module")
def tiny_clip(host: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a CLIP of random weights and the host's tokenizer, as the hub has them."""
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizer

    torch.manual_seed(0)
    small = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    tokenizer = CLIPTokenizer.from_pretrained(host / "comfy" / "sd1_tokenizer")
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    vision = {**small, "image_size": 32, "patch_size": 8}
    folder = tmp_path_factory.mktemp("clip")
    CLIPModel(CLIPConfig(text_config={**small, **ends}, vision_config=vision, projection_dim=16)).save_pretrained(
        folder
    )
    size = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    CLIPProcessor(CLIPImageProcessor(**size), tokenizer).save_pretrained(folder)
    return folder


def test_the_clip_score_is_the_likeness_of_picture_and_prompt(tiny_clip):
    placed: list[torch.nn.Module] = []
    ready: list[None] = []
    quality_scores = load_quality(
        CLIP, [], placed.append, nothing, clip_model=str(tiny_clip), ready=lambda: ready.append(None)
    )
    pictures, prompts = colours(6, 4).repeat(8, 1).repeat(8, 2), ["a wall", "a door", "a red cup", "the sea"]
    quality_scores.add(pictures, prompts, pictures)
    found = quality_scores.scores(against_itself=True)

    from transformers import CLIPModel, CLIPProcessor

    network = clip_features(CLIPModel.from_pretrained(tiny_clip))
    inputs = CLIPProcessor.from_pretrained(tiny_clip)(
        text=prompts, images=[Image.fromarray(picture) for picture in pictures], return_tensors="pt", padding=True
    )
    seen = network.get_image_features(inputs["pixel_values"])
    told = network.get_text_features(inputs["input_ids"], inputs["attention_mask"])
    alike = 100 * torch.nn.functional.cosine_similarity(seen, told).mean()
    assert found.clip_score == pytest.approx(max(float(alike), 0.0), rel=1e-3)
    assert found.fid is None and len(placed) == 1 and ready


class ShortOfMemory(MeanColour):
    """Lacks memory once: when it is asked for the time that `lacking` says."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = self.lacking = 0

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        self.asked += 1
        if self.asked == self.lacking:
            raise MemoryError
        return super().forward(pictures)


class ColourClip(torch.nn.Module):
    """In place of CLIP: a picture fits a prompt as its mean colour fits the prompt's length."""

    lacks = False

    def __init__(self) -> None:
        super().__init__()
        self.config = type("Config", (), {"text_config": type("Text", (), {"max_position_embeddings": 77})})

    def get_image_features(self, pictures: torch.Tensor) -> torch.Tensor:
        if self.lacks:
            raise MemoryError
        return pictures.float().mean((2, 3))

    def get_text_features(self, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return tokens[:, :3].float()


def colour_clip() -> tuple[torch.nn.Module, Any]:
    def processor(text: Any = None, images: Any = None, **_: Any) -> dict[str, torch.Tensor]:
        if images is not None:
            return {"pixel_values": torch.stack([torch.as_tensor(np.array(image)) for image in images])}
        ids = torch.tensor([[len(one), 3, 5] for one in text])
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}

    return ColourClip(), processor


@pytest.mark.parametrize("lacking", [1, 2, "CLIP"])
def test_pictures_count_once_where_memory_ran_out_over_them(lacking: int | str) -> None:
    plain, moved, prompts = colours(1), colours(2, shift=0.3), ["a wall"] * 15 + ["a wide door with a handle"] * 25

    def scored(lacking: int | str) -> Any:
        network, clip = ShortOfMemory(), colour_clip()
        quality_scores = Quality(network, lambda: clip)
        network.lacking = lacking if isinstance(lacking, int) else 0
        clip[0].lacks = lacking == "CLIP"
        if lacking:
            with pytest.raises(MemoryError):
                quality_scores.add(moved[:20], prompts[:20], plain[:20])
        clip[0].lacks = False
        for some in (slice(10), slice(10, 20), slice(20, 40)):
            quality_scores.add(moved[some], prompts[some], plain[some])
        return quality_scores.scores(against_itself=False)

    whole = scored(0)
    assert scored(lacking) == whole and whole.fid == pytest.approx(frechet(plain, moved), rel=1e-3)


def test_an_evaluation_whose_memory_ran_out_has_the_same_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Be it while other pictures are decoded that preservation is measured by."""
    prefixes = {"half": prefix_of_effect(0.5)}

    def measured(most: int) -> Any:
        decode = Painter.decode

        def short(self: Any, latents: torch.Tensor) -> torch.Tensor:
            calls.append(len(latents))
            if len(calls) == most:
                raise MemoryError
            return decode(self, latents)

        calls: list[int] = []
        with monkeypatch.context() as patched:
            patched.setattr(Painter, "decode", short)
            clip = colour_clip()
            scores = Quality(MeanColour(), lambda: clip)
            found = evaluate(Painter(), ColourRecognizer(), PEOPLE, prefixes, SETTINGS, drawing={}, quality=scores)
        figures = {
            f"{column.name} {name}": value
            for column in found.columns
            for name, value in vars(column.scores).items()
            if value is not None
        }
        return figures, len(calls)

    whole, calls = measured(0)
    compared = 0
    for number in range(1, calls + 1):
        try:
            found, _ = measured(number)
        except MemoryError:  # Of examples to look at, which nothing is halved for.
            continue
        assert found == pytest.approx(whole, rel=1e-6, abs=1e-9), number
        compared += 1
    assert compared > 10


def test_a_missing_package_is_told_with_the_command_before_anything_is_drawn(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchmetrics", None)
    with pytest.raises(MeasurementError, match=r"pip install --no-deps torchmetrics torch-fidelity"):
        Quality(MeanColour(), None)


def test_a_clip_model_that_is_not_there_is_told(tmp_path):
    with pytest.raises(WeightsError, match=r"could not be loaded.*give the folder"):
        load_quality(CLIP, [], nothing, nothing, clip_model=str(tmp_path))


@pytest.mark.parametrize("choice", [INCEPTION, BOTH])
def test_other_weights_than_inceptions_are_refused(tmp_path, choice, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_fidelity", sys.modules["anonymize_faces"])
    (tmp_path / quality.INCEPTION_WEIGHTS.name).write_bytes(b"something else")
    with pytest.raises(WeightsError, match=r"SHA-256 does not begin with 6726825d"):
        load_quality(choice, [tmp_path], nothing, nothing)
