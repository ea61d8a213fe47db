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
