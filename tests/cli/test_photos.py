"""The commands about photos: what they write and say, and how they end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from anonymize_faces.cli import attack as attacking
from anonymize_faces.cli import main
from anonymize_faces.demo.world.people import cast
from anonymize_faces.demo.world.renderer import draw, picture_of
from anonymize_faces.photos import folders
from anonymize_faces.photos import protect as protecting
from anonymize_faces.tests.support.pipelines import tiny_pipeline


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model in a folder of diffusers."""
    folder = tmp_path_factory.mktemp("model")
    tiny_pipeline("sd1").save_pretrained(folder)
    return folder


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with two photos of one person, of different sizes and formats."""
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    one, two = (Image.fromarray(draw(picture_of(rng, cast()[0], 0))) for _ in range(2))
    one.save(folder / "one.png")
    two.resize((90, 70)).save(folder / "two.jpg", quality=95)
    return folder


def protect(model: Path, photos: Path, output: Path, *more: str) -> list[str]:
    where = [str(photos), "--output", str(output), "--model", str(model), "--device", "cpu"]
    return ["protect", *where, "--width", "64", "--height", "64", "--drawing-steps", "1", "--steps", "2", *more]


def attack(model: Path, photos: Path, protected: Path, output: Path, *more: str) -> list[str]:
    where = [str(protected), "--original", str(photos), "--output", str(output), "--model", str(model)]
    size = ["--width", "64", "--height", "64", "--drawing-steps", "1", "--device", "cpu"]
    how = ["--recognizer", "demo reader", "--steps", "2", "--images", "1", "--purification", "JPEG 75"]
    return ["attack", *where, *size, *how, *more]


def said(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    return json.loads(capsys.readouterr().out)


def test_photos_are_protected_under_their_names_and_attacked(
    model: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "protected"
    (photos / "three.HEIC").touch()
    assert main(protect(model, photos, output, "--json", "--budget", "6", "--method", "encoder + prompts")) == 0
    told = capsys.readouterr()
    found = json.loads(told.out)
    assert "2 steps on 2 photos, which ask the model" in told.err
    assert [Path(entry["file"]).name for entry in found["files"]] == ["one.png", "two.png"]
    assert all(0 < entry["largest_change"] <= 6 for entry in found["files"]) and found["passes"] > 0
    assert (
        "IP-Adapter" in found["report"] and "No face was found in photos 1 and 2: " in found["report"]
    )  # They are drawn.
    assert "Not read, and so not protected: three.HEIC." in found["report"]
    assert Image.open(output / "two.png").size == (90, 70)
    assert sorted(path.name for path in output.iterdir()) == ["one.png", "two.png"]

    assert main(attack(model, photos, output, tmp_path / "attacked", "--json")) == 0
    told = capsys.readouterr()
    found = json.loads(told.out)
    assert told.err.count("of memory beside the model") == 2
    assert -1 <= found["originals"]["similarity"] <= 1 and found["protected"]["first"] is None
    assert len(list((tmp_path / "attacked" / "protected").glob("*.png"))) == 3
    assert sorted(path.name for path in (tmp_path / "attacked").iterdir()) == ["originals", "protected"]


def test_photos_that_could_not_be_written_need_not_be_protected_anew(
    model: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output, wrote, steps = tmp_path / "protected", folders.put_whole, []
    make = protecting._Ascent._make

    def full(data: bytes, path: Path, overwrite: bool) -> None:
        if path.name == "two.png":
            raise OSError(28, "No space left on device")
        wrote(data, path, overwrite)

    def made(self: Any, changes: Any, objective: Any, step: int) -> None:
        steps.append(step)
        make(self, changes, objective, step)

    monkeypatch.setattr(protecting._Ascent, "_make", made)
    monkeypatch.setattr(folders, "put_whole", full)
    assert main(protect(model, photos, output)) == 1
    assert "No space left" in capsys.readouterr().err and steps == [0, 1]
    monkeypatch.setattr(folders, "put_whole", wrote)
    ours = (output / "one.png").read_bytes()
    # What another run would write in its place, and what somebody has changed since then, is not this run's.
    assert main(protect(model, photos, output, "--budget", "4")) == 1
    (output / "one.png").write_bytes(b"mine")
    assert main(protect(model, photos, output)) == 1
    assert capsys.readouterr().err.count("'one.png' in --output already") == 2
    (output / "one.png").write_bytes(ours)
    assert main(protect(model, photos, output)) == 0
    assert steps == [0, 1] and sorted(path.name for path in output.iterdir()) == ["one.png", "two.png"]
    assert main(protect(model, photos, output)) == 1, "it is done"


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--budget", "64"], "budget"),
        (["--pull-towards", "nowhere.png"], "There is no photo 'nowhere.png'"),
    ],
)
def test_what_cannot_be_done_is_told_in_a_sentence(
    model: Path, photos: Path, tmp_path: Path, more: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(protect(model, photos, tmp_path / "out", *more)) == 1
    assert words in capsys.readouterr().err


def test_files_that_are_there_and_folders_that_would_be_read_again_are_left_alone(
    model: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(protect(model, photos, photos / "protected")) == 1
    assert "lies in the folder of the photos" in capsys.readouterr().err
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "one.png").write_bytes(b"mine")
    assert main(protect(model, photos, tmp_path / "out")) == 1
    assert "'one.png' in --output already" in capsys.readouterr().err
    assert (tmp_path / "out" / "one.png").read_bytes() == b"mine"


def test_folders_of_other_photos_are_not_compared(model: Path, photos: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "other").mkdir()
    Image.open(photos / "one.png").save(tmp_path / "other" / "three.png")
    assert main(["attack", str(tmp_path / "other"), "--original", str(photos), "--model", str(model)]) == 1
    assert "do not hold photos of the same names" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("original", "protected", "output"),
    [
        ("originals", "photos", "."),  # What is drawn would replace the photos.
        ("photos", "protected", "."),
        ("photos", "other", "photos"),  # What is drawn would be read as photos the next time.
        ("originals/of me", "photos", "."),
    ],
)
def test_an_attack_never_draws_among_the_photos_it_reads(
    model: Path,
    photos: Path,
    tmp_path: Path,
    original: str,
    protected: str,
    output: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for folder in {original, protected} - {"photos"}:
        (tmp_path / folder).mkdir(parents=True)
        for path in photos.iterdir():
            (tmp_path / folder / path.name).write_bytes(path.read_bytes())
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    monkeypatch.setattr(attacking, "load_denoiser", lambda *_: pytest.fail("loaded a model before it refused"))
    asked = attack(model, tmp_path / original, tmp_path / protected, tmp_path / output, "--overwrite")
    assert main(asked) == 1
    assert "among the photos of" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_an_attack_replaces_what_another_drew_only_if_it_is_told_to(
    model: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    drawn, wrote = tmp_path / "attacked" / "protected", folders.put_whole

    def full(data: bytes, path: Path, overwrite: bool) -> None:
        if path == drawn / "002.png":
            raise OSError(28, "No space left on device")
        wrote(data, path, overwrite)

    monkeypatch.setattr(folders, "put_whole", full)
    asked = attack(model, photos, photos, tmp_path / "attacked")
    assert main([*asked, "--images", "2"]) == 1
    monkeypatch.setattr(folders, "put_whole", wrote)
    capsys.readouterr()
    assert main(asked) == 1, "the other run wrote these"
    assert "There are files in" in capsys.readouterr().err
    assert main([*asked, "--images", "2"]) == 0, "broken off while it wrote, it goes on"
    assert main([*asked, "--images", "2"]) == 1, "it is done"
    assert len(list(drawn.iterdir())) == 6
    assert main([*asked, "--overwrite"]) == 0
    assert sorted(path.name for path in drawn.iterdir()) == ["001.png", "002.png", "003.png"]
    assert sorted(path.name for path in (tmp_path / "attacked").iterdir()) == ["originals", "protected"]
