"""Lists of people and prompts given to an evaluation, and photos found by the people's names."""

from __future__ import annotations

import argparse
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anonymize_faces.evaluation import photos
from anonymize_faces.evaluation.commands import Asked, add_arguments, asked
from anonymize_faces.prefix import ListError
from anonymize_faces.trainer.data.identities import Identity


def asking(*arguments: str) -> Asked:
    parser = argparse.ArgumentParser()
    add_arguments(parser, Path("out"))
    return asked(parser.parse_args(arguments))


def test_lists_are_read_in_the_encodings_that_editors_write(tmp_path: Path) -> None:
    (tmp_path / "people.csv").write_bytes("name,description\nZoë,a woman\n".encode("utf-16"))
    (tmp_path / "prompts.txt").write_bytes("a café\n".encode("utf-8-sig"))
    what = asking("--names", str(tmp_path / "people.csv"), "--general-prompts", str(tmp_path / "prompts.txt"))
    assert what.identities == (Identity("Zoë", "a woman"),) and what.settings.general_prompts == ("a café",)


@pytest.mark.parametrize("option", ["--names", "--general-prompts"])
def test_what_cannot_be_read_is_named_by_its_line(option: str, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(b"a\nZo\xeb")
    with pytest.raises(ListError, match=r"^Line 2 of "):
        asking(option, str(tmp_path / "list.txt"))


def test_photos_are_found_whatever_way_their_names_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (unicodedata.normalize("NFD", "Zoë Müller.png"), "ZOË MÜLLER 2.png", "zoe muller.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    found: list[tuple[int, np.ndarray]] = []
    monkeypatch.setattr(photos, "gallery_of_photos", lambda recognizer, some: found.extend(some))
    photos.gallery_of_folder(None, [Identity("Zoë Müller")], tmp_path)
    assert len(found) == 2


def test_no_pictures_of_general_prompts_leave_these_out(tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("a cafe")
    assert asking("--general-images", "0").settings.general_prompts == ()
    assert (
        asking("--general-images", "0", "--general-prompts", str(tmp_path / "prompts.txt")).settings.general_prompts
        == ()
    )
    assert asking("--general-images", "1").settings.general_prompts


def people_in(files: dict[str, str], names: tuple[str, ...], folder: Path, patched: pytest.MonkeyPatch) -> None:
    """Checks of files by their paths, each of its own shade, whom the gallery takes them for; "" is nobody."""
    for shade, path in enumerate(files):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (shade, 0, 0)).save(folder / path)
    found: list[tuple[int, np.ndarray]] = []
    patched.setattr(photos, "gallery_of_photos", lambda recognizer, some: found.extend(some))
    photos.gallery_of_folder(None, [Identity(name) for name in names], folder)
    taken_for = {list(files)[int(photo[0, 0, 0])]: names[person] for person, photo in found}
    assert taken_for == {path: name for path, name in files.items() if name}


def test_photos_of_others_whose_names_begin_alike_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {
        **dict.fromkeys(("Jo Li.png", "Jo Li 2.png", "Jo Li (3).png", "jo_li-04.png", "Jo Li - Copy.png"), "Jo Li"),
        **dict.fromkeys(("Jo Li/IMG_1234.png", "Jo Li/beach.png", "Jo Li/beach/1.png", "10_Jo Li/1.png"), "Jo Li"),
        **dict.fromkeys(("Jo Lindqvist.png", "Jo Lindqvist/1.png", "Jo Li Berg.png", "Jo Li/Ada Example.png"), ""),
        **dict.fromkeys(("Jo Li Ada 2.png", "Jo Li/Jo Li Ada.png", "Jo Li Ada/1.png"), "Jo Li Ada"),
    }
    people_in(files, ("Jo Li", "Jo Li Ada"), tmp_path, monkeypatch)


def test_listed_names_may_be_short_or_end_in_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {
        **dict.fromkeys(("ada.png", "Ada 2.png", "ada/1.png", "train/ada/party.png", "Bea Sample/ada 1.png"), "ada"),
        **dict.fromkeys(("adam.png", "adam/1.png", "adams 2.png"), ""),
        **dict.fromkeys(("Agent 47.png", "Agent 47 (2).png", "Agent 47/3.png"), "Agent 47"),
        **dict.fromkeys(("Agent 4.png", "Agent 471.png"), ""),
        **dict.fromkeys(("Face.png", "Face 2.png", "Face/1.png"), "Face"),
    }
    people_in(files, ("ada", "Agent 47", "Face"), tmp_path, monkeypatch)
