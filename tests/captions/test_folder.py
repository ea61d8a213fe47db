"""A folder into files: each form, nothing overwritten, going on, and files that are no pictures."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anonymize_faces.captions import kept as keeping
from anonymize_faces.captions.calibration import Calibrated
from anonymize_faces.captions.describing import DescribingSettings
from anonymize_faces.captions.folder import (
    IDENTITIES,
    METADATA,
    TEXTS,
    FolderJob,
    describe_folder,
)
from anonymize_faces.captions.metadata import METADATA_FILE
from anonymize_faces.prefix.errors import DescriptionError
from anonymize_faces.tests.support.looks import ChosenFaces, ChosenLooks, picture
from anonymize_faces.trainer.data.identities import parse_identities
from anonymize_faces.trainer.data.list_text import sameness

HAIR = ("black", "brown", "blond", "red")


def save(folder: Path, name: str, hair: int = 0, faces: int = 1) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture(faces, second=hair)).save(path)
    return path


def reader(note: Callable[[int], object] = lambda hair: None) -> ChosenLooks:
    """Reads the hair that a picture's green tells, and notes it."""

    def read(crop: np.ndarray) -> dict[str, tuple[str, float]]:
        hair = int(crop[-1, -1, 1])
        note(hair)
        return {"hair": (HAIR[hair], 0.95)}

    return ChosenLooks(read)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, name in enumerate(("Ada 1.png", "Ada 2.png", "Bob.png", "below/1.png")):
        save(tmp_path, name, hair=number // 2 + (number > 2))
    return tmp_path


def run(folder: Path, form: str = TEXTS, looks: ChosenLooks | None = None, report=lambda done, total: None, **job):
    what = FolderJob(folder, form, same=sameness, check=parse_identities, **job)
    return describe_folder(what, ChosenFaces(), looks or reader(), DescribingSettings(), report)


def texts(folder: Path) -> dict[str, str]:
    return {p.relative_to(folder).as_posix(): p.read_text(encoding="utf-8") for p in sorted(folder.rglob("*.txt"))}


def kept_in(folder: Path) -> list[Path]:
    """Files in which it is kept what was read."""
    return list(folder.glob(".anonymize-faces-described-*.jsonl"))


def stop_at(number: int) -> Callable[[int, int], None]:
    """Ctrl+C after so many pictures."""

    def stop(done: int, total: int) -> None:
        if done == number:
            raise KeyboardInterrupt

    return stop


def test_a_text_beside_each_picture(folder):
    result = run(folder)
    assert texts(folder) == {
        "Ada 1.txt": "a person with black hair\n",
        "Ada 2.txt": "a person with black hair\n",
        "Bob.txt": "a person with brown hair\n",
        "below/1.txt": "a person with blond hair\n",
    }
    assert len(result.files) == 4 and result.untouched == 0 and kept_in(folder) == []


def test_texts_that_are_there_stay_unless_told_otherwise(folder):
    (folder / "Bob.txt").write_text("my own words", encoding="utf-8")
    asked: list[int] = []
    result = run(folder, looks=reader(asked.append))
    assert texts(folder)["Bob.txt"] == "my own words" and result.untouched == 1 and asked == [0, 0, 2]
    assert run(folder).untouched == 4
    run(folder, overwrite=True)
    assert texts(folder)["Bob.txt"] == "a person with brown hair\n"


def test_metadata_keeps_the_lines_that_are_there(folder):
    mine = '{"file_name": "Bob.png", "text": "my own words", "licence": "mine"}'
    (folder / METADATA_FILE).write_text(f"{mine}\n", encoding="utf-8")
    run(folder, METADATA)
    lines = (folder / METADATA_FILE).read_text(encoding="utf-8").splitlines()
    assert lines[0] == mine and texts(folder) == {}
    told = {entry["file_name"]: entry["text"] for entry in map(json.loads, lines)}
    assert list(told) == ["Bob.png", "Ada 1.png", "Ada 2.png", "below/1.png"]
    assert told["below/1.png"] == "a person with blond hair"
    run(folder, METADATA, overwrite=True)
    first, *_ = (folder / METADATA_FILE).read_text(encoding="utf-8").splitlines()
    assert json.loads(first) == {"file_name": "Bob.png", "text": "a person with brown hair", "licence": "mine"}


def test_several_lines_of_a_picture_stay(folder):
    mine = [json.dumps({"file_name": "Bob.png", "text": text, "licence": text[-1]}) for text in ("one", "two")]
    file = folder / METADATA_FILE
    file.write_bytes("\ufeff".encode() + "\r\n".join([mine[0], "", mine[1]]).encode())
    run(folder, METADATA)
    lines = file.read_bytes().decode().split("\n")
    assert [line.rstrip("\r") for line in lines[:3]] == [mine[0], "", mine[1]] and len(lines) == 7
    run(folder, METADATA, overwrite=True)
    told = [json.loads(line) for line in file.read_bytes().decode().split("\n") if line.strip()]
    assert len(told) == 5 and [entry["licence"] for entry in told[:2]] == ["e", "o"]
    assert [entry["text"] for entry in told[:2]] == ["a person with brown hair"] * 2


def test_names_with_marks_that_end_a_line_elsewhere_are_read_again(folder):
    save(folder, "Dora\u2028Line.png")
    run(folder, METADATA)
    assert run(folder, METADATA).untouched == 5
    assert "Dora\u2028Line.png" in (folder / METADATA_FILE).read_text(encoding="utf-8")


def test_what_others_write_meanwhile_is_kept(folder):
    file = folder / METADATA_FILE
    theirs = [json.dumps({"file_name": name, "text": "theirs"}) for name in ("Bob.png", "elsewhere.png")]

    def write(done: int, total: int) -> None:
        file.write_text("".join(f"{line}\n" for line in theirs), encoding="utf-8")

    run(folder, METADATA, report=write)
    told = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    assert [entry["file_name"] for entry in told] == [
        "Bob.png",
        "elsewhere.png",
        "Ada 1.png",
        "Ada 2.png",
        "below/1.png",
    ]
    assert told[0]["text"] == "theirs"


def test_a_metadata_file_that_is_none_is_refused_before_anything_is_read(folder):
    (folder / METADATA_FILE).write_text("[1, 2]\n", encoding="utf-8")
    with pytest.raises(DescriptionError, match="Line 1 of"):
        run(folder, METADATA, reader(lambda hair: pytest.fail("something was read")))


def test_lines_for_an_identity_list(folder, tmp_path_factory):
    output = tmp_path_factory.mktemp("lists") / "new" / "people.txt"
    result = run(folder, IDENTITIES, output=output)
    people = parse_identities(output.read_text(encoding="utf-8"))
    assert [(one.name, one.description) for one in people] == [
        ("Ada", "a person with black hair"),
        ("Bob", "a person with brown hair"),
        ("below", "a person with blond hair"),
    ]
    assert [person.photos for person in result.people] == [2, 1, 1]
    with pytest.raises(DescriptionError, match="there already"):
        run(folder, IDENTITIES, output=output)
    run(folder, IDENTITIES, output=output, overwrite=True)


@pytest.mark.parametrize("form", [TEXTS, METADATA, IDENTITIES])
def test_a_run_that_was_broken_off_goes_on_and_ends_as_one_that_was_not(folder, tmp_path_factory, form):
    whole = tmp_path_factory.mktemp("whole") / "pictures"
    shutil.copytree(folder, whole)
    run(whole, form)

    with pytest.raises(KeyboardInterrupt):
        run(folder, form, report=stop_at(3))
    (kept,) = kept_in(folder)
    assert len(kept.read_text(encoding="utf-8").splitlines()) == 4
    with kept.open("a", encoding="utf-8") as file:
        file.write('{"file": "half a li')
    asked: list[int] = []
    progress: list[tuple[int, int]] = []
    run(folder, form, reader(asked.append), lambda done, total: progress.append((done, total)))
    assert asked == [2] and progress[-1][0] == progress[-1][1] and not kept.exists()
    for path in [path for path in whole.rglob("*") if path.is_file()]:
        assert (folder / path.relative_to(whole)).read_bytes() == path.read_bytes()


def test_a_full_disk_leaves_what_was_kept_and_stops_nothing(folder, monkeypatch):
    with pytest.raises(KeyboardInterrupt):
        run(folder, METADATA, report=stop_at(2))
    (file,) = kept_in(folder)
    before = file.read_bytes()

    def full(data, path, overwrite):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(keeping, "put_whole", full)
        with pytest.raises(KeyboardInterrupt):
            run(folder, METADATA, report=stop_at(3))
        assert file.read_bytes() == before

    class FullLater:
        def write(self, line):
            raise OSError(28, "No space left on device")

        def close(self):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(keeping.KeptReadings, "__enter__", lambda self: vars(self).update(_file=FullLater()) or self)
    result = run(folder, METADATA)
    assert "could not be kept (No space left on device)" in result.trouble and result.pictures > 3
    assert kept_in(folder) == []


def test_what_was_read_of_a_picture_that_was_replaced_or_by_another_reader_counts_for_nothing(folder):
    with pytest.raises(KeyboardInterrupt):
        run(folder, METADATA, report=stop_at(3))
    save(folder, "Ada 1.png", hair=3)
    asked: list[int] = []
    run(folder, METADATA, reader(asked.append))
    assert asked == [3, 2]
    (folder / METADATA_FILE).unlink()
    with pytest.raises(KeyboardInterrupt):
        run(folder, METADATA, report=stop_at(3))
    other = reader(asked.append)
    other.name = "another reader"
    asked.clear()
    run(folder, METADATA, other)
    assert len(asked) == 4


@pytest.mark.parametrize(
    "damage",
    [
        lambda entry: {"file": entry["file"]},
        lambda entry: {name: value for name, value in entry.items() if name != "is"},
        lambda entry: entry | {"probabilities": {"hair": [1, 0]}},
        lambda entry: entry | {"probabilities": {name: [7.0] * len(p) for name, p in entry["probabilities"].items()}},
        lambda entry: entry | {"file": ["x"]},
        lambda entry: [entry],
        lambda entry: None,
    ],
)
def test_a_kept_line_that_is_not_whole_counts_for_nothing(folder, damage):
    with pytest.raises(KeyboardInterrupt):
        run(folder, METADATA, report=stop_at(3))
    (kept,) = kept_in(folder)
    head, first, *others = kept.read_text(encoding="utf-8").splitlines()
    kept.write_text("\n".join([head, json.dumps(damage(json.loads(first))), *others]), encoding="utf-8")
    asked: list[int] = []
    run(folder, METADATA, reader(asked.append))
    assert len(asked) == 2 and len((folder / METADATA_FILE).read_text(encoding="utf-8").splitlines()) == 4


def test_lists_beside_each_other_do_not_take_each_others_pictures(tmp_path):
    for number, folder in enumerate(("A", "B")):
        for name in ("Ada", "Bob", "Cem", "Dora"):
            os.utime(save(tmp_path / folder, f"{name}.png", hair=number), (1e9, 1e9))
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "A", IDENTITIES, report=stop_at(3), output=tmp_path / "a.txt")
    run(tmp_path / "B", IDENTITIES, output=tmp_path / "b.txt")
    assert (tmp_path / "b.txt").read_text(encoding="utf-8").count("brown") == 4
    assert len(kept_in(tmp_path)) == 1
    asked: list[int] = []
    run(tmp_path / "A", IDENTITIES, reader(asked.append), output=tmp_path / "a.txt")
    assert asked == [0] and kept_in(tmp_path) == []


def test_what_was_read_with_another_calibration_counts_for_nothing(folder):
    asked: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        run(folder, METADATA, Calibrated(reader(), {"hair": 2.0}), stop_at(3))
    run(folder, METADATA, Calibrated(reader(asked.append), {"hair": 1.0}))
    assert len(asked) == 4


def test_pictures_that_cannot_be_described_stop_nothing_and_each_says_why(folder):
    (folder / "words.jpg").write_text("no picture", encoding="utf-8")
    whole = (folder / "Bob.png").read_bytes()
    (folder / "half.png").write_bytes(whole[: len(whole) // 2])
    frames = [Image.fromarray(picture(second=number)) for number in range(3)]
    frames[0].save(folder / "moving.gif", save_all=True, append_images=frames[1:])
    save(folder, "nobody.png", faces=0)
    save(folder, "crowd.png", faces=3)
    save(folder, "Bob.bmp")
    (folder / ".hidden.png").write_bytes(whole)
    (folder / "folder.png").mkdir()
    (folder / "notes.md").write_text("mine", encoding="utf-8")
    result = run(folder)
    findings = {result.names[one.picture]: one.finding for one in result.descriptions if one.finding}
    assert "is no picture" in findings.pop("words.jpg")
    assert "damaged" in findings.pop("half.png")
    assert "animated" in findings.pop("moving.gif")
    assert findings.pop("nobody.png") == "no face was found"
    assert findings.pop("crowd.png") == "3 faces were found: the largest is described"
    assert "rename one" in findings.pop("Bob.png")
    assert findings == {} and result.pictures == 10
    assert texts(folder).keys() == {"Ada 1.txt", "Ada 2.txt", "Bob.txt", "below/1.txt", "crowd.txt"}


def test_a_list_holds_no_name_that_is_no_text_and_says_so(tmp_path):
    odd = os.fsdecode(b"Sur\xffrog.png")
    save(tmp_path, odd)
    save(tmp_path, "Ada Example.png")
    result = run(tmp_path, METADATA)
    assert [one.finding for one in result.descriptions if result.names[one.picture] == odd] == [
        "a list cannot hold this name, which is no UTF-8: rename it"
    ]
    told = [json.loads(line) for line in (tmp_path / METADATA_FILE).read_text(encoding="utf-8").splitlines()]
    assert [entry["file_name"] for entry in told] == ["Ada Example.png"]
    result = run(tmp_path, IDENTITIES)
    assert result.nameless == 1 and [person.name for person in result.people] == ["Ada Example"]
    assert len(run(tmp_path, TEXTS).files) == 2


def test_pictures_without_a_persons_name_are_told_and_not_read(folder):
    save(folder, "IMG_0001.png", hair=3)
    asked: list[int] = []
    result = run(folder, IDENTITIES, reader(asked.append))
    findings = {result.names[one.picture]: one.finding for one in result.descriptions if one.finding}
    assert list(findings) == ["IMG_0001.png"] and "call it by the person" in findings["IMG_0001.png"]
    assert result.nameless == 1 and 3 not in asked


def test_folders_whose_files_bear_several_names_are_told(folder):
    save(folder, "below/Cem.png")
    save(folder, "below/Dora.png")
    ((where, told),) = run(folder, IDENTITIES).folders
    assert where == "below" and "Cem, Dora" in told


@pytest.mark.parametrize(
    ("name", "words"),
    [("IMG_0001.png", "IMG_0001.png: whom it shows cannot be told"), ("black hair.png", "black hair: Their line has")],
)
def test_a_list_of_nobody_is_an_error_with_a_remedy(tmp_path, name, words):
    save(tmp_path, name)
    with pytest.raises(DescriptionError, match=f"Nobody could be described; {words}.*Call each file by the person"):
        run(tmp_path, IDENTITIES)
    assert not list(tmp_path.glob("*.txt"))


def test_no_faces_are_kept_in_memory(folder):
    assert [one.crop for one in run(folder).descriptions] == [None] * 4


def test_what_cannot_come_to_anything_is_refused(tmp_path):
    with pytest.raises(DescriptionError, match="There is no folder"):
        run(tmp_path / "nowhere")
    with pytest.raises(DescriptionError, match="no pictures in"):
        run(tmp_path)
    with pytest.raises(DescriptionError, match="name no output"):
        run(tmp_path, output=tmp_path / "o.txt")
    job = FolderJob(tmp_path)
    with pytest.raises(DescriptionError, match="one face of a picture"):
        describe_folder(job, ChosenFaces(), reader(), DescribingSettings(several="all"))
