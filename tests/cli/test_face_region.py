"""The command that teaches a finished prefix where faces are."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

from anonymize_faces.cli import face_region as command
from anonymize_faces.cli import main
from anonymize_faces.engines.diffusers.denoiser import DiffusersDenoiser
from anonymize_faces.engines.diffusers.loading import load_pipeline
from anonymize_faces.engines.options import Drawing
from anonymize_faces.prefix import Prefix, PrefixRecord, load_prefix, save_prefix
from anonymize_faces.prefix.face_region import FaceRegion
from anonymize_faces.tests.support.finders import MiddleFinder
from anonymize_faces.tests.support.pipelines import tiny_pipeline
from anonymize_faces.tests.support.prefixes import numbers
from anonymize_faces.trainer.stages import face_region


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    tiny_pipeline("sd1").save_pretrained(folder)
    return folder


@pytest.fixture
def work(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with people, and a prefix for the model."""
    for name, value in (("STEPS", 4), ("LEVELS", (0.1, 0.9999)), ("HELD_OUT", 6), ("LEARNED", 12), ("NOISINGS", 1)):
        monkeypatch.setattr(face_region, name, value)
    monkeypatch.setattr(command, "finding_on", lambda device: lambda: nullcontext(MiddleFinder()))
    (tmp_path / "people.txt").write_text("Ada Lovelace: a woman with dark hair\nBob Miller\nCy Young\n")
    settings = {"preset": "balanced", "portraits_per_identity": 6, "seed": 3, "held_out": 0.125, "of_a_later_one": 1}
    fingerprint = DiffusersDenoiser(load_pipeline(model), (64, 64), Drawing(steps=1, cfg=2.0)).fingerprint
    record = PrefixRecord(family="sd1", fingerprint=fingerprint, settings=settings, name="before")
    save_prefix(Prefix({"l": 0.05 * torch.randn(3, 32)}, record), tmp_path / "p.safetensors")
    return tmp_path


def region(model: Path, work: Path, *more: str, output: str = "new") -> list[str]:
    paths = ["--model", str(model), "--identities", str(work / "people.txt")]
    size = ["--width", "64", "--height", "64", "--drawing-steps", "1", "--device", "cpu", "--json"]
    files = [str(work / "p.safetensors"), "--output", str(work / f"{output}.safetensors")]
    return ["face-region", *files, *paths, *size, *more]


def said(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    return json.loads(capsys.readouterr().out)


def test_a_finished_prefix_learns_it_and_stays_the_same_otherwise(model, work, capsys):
    assert main(region(model, work)) == 0
    told = said(capsys)
    before, made = load_prefix(work / "p.safetensors"), load_prefix(work / "new.safetensors")
    assert FaceRegion(made.face_region).channels == 4 and not before.face_region
    assert torch.equal(numbers(made), numbers(before)) and made.record.settings == before.record.settings
    assert made.record.name == "before" and "overlap by" in told["report"]
    assert list((work / ".anonymize-faces-runs").iterdir()) == []


def test_it_overwrites_nothing_that_it_was_not_asked_to(model, work, capsys):
    before = (work / "p.safetensors").read_bytes()
    assert main(region(model, work, output="p")) == 1
    assert "--overwrite" in said(capsys)["error"] and (work / "p.safetensors").read_bytes() == before
    assert main(region(model, work, "--overwrite", output="p")) == 0
    assert load_prefix(work / "p.safetensors").face_region


def test_broken_off_it_goes_on_with_what_was_drawn(model, work, capsys, monkeypatch):
    finds = MiddleFinder.find

    def interrupted(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(MiddleFinder, "find", interrupted)
    assert main(region(model, work)) == 130
    assert "What was drawn is kept" in said(capsys)["error"] and not (work / "new.safetensors").exists()
    monkeypatch.setattr(MiddleFinder, "find", finds)
    monkeypatch.setattr(DiffusersDenoiser, "sample", lambda *_: pytest.fail("a picture was drawn again"))
    assert main(region(model, work)) == 0
    assert (work / "new.safetensors").is_file()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--output", "x.txt"], "no name for a prefix file"),
        (["--identities", "nobody.txt"], "nobody.txt"),
        (["--batch-size", "0"], "set it to 1 or more"),
    ],
)
def test_what_is_in_the_way_is_told_before_a_model_is_loaded(model, work, capsys, monkeypatch, more, words):
    monkeypatch.setattr(command, "load_denoiser", lambda *_: pytest.fail("a model was loaded"))
    assert main(region(model, work, *more)) == 1
    assert words in said(capsys)["error"]
