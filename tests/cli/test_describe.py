"""The command `describe`: files, words for scripts, and how it ends."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anonymize_faces.captions.calibration import FEWEST, FILE
from anonymize_faces.cli import main
from anonymize_faces.demo.world.people import cast
from anonymize_faces.demo.world.renderer import draw, picture_of
from anonymize_faces.tests.support.tiny_clip import write_tiny_clip
from anonymize_faces.trainer.data.identities import parse_identities

DEMO = ("--reader", "demo reader")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two pictures of each of three of the demo's people, and a file that is no picture."""
    rng = np.random.default_rng(4)
    for number in (0, 20, 40):
        for view in (1, 2):
            pixels = draw(picture_of(rng, cast()[number], number))
            Image.fromarray(pixels).save(tmp_path / f"{cast()[number].name} {view}.png")
    (tmp_path / "words.jpg").write_text("words", encoding="utf-8")
    return tmp_path


def test_it_describes_a_folder_and_goes_on_where_descriptions_are_missing(photos, capsys):
    assert main(["describe", str(photos), *DEMO, "--json", "--quiet"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["ok"] and told["described"] == 6 and told["untouched"] == 0 and len(told["files"]) == 6
    assert "is no picture" in told["findings"]["words.jpg"]
    caption = told["captions"][f"{cast()[0].name} 1.png"]
    assert (photos / f"{cast()[0].name} 1.txt").read_text(encoding="utf-8") == f"{caption}\n"
    (photos / f"{cast()[0].name} 1.txt").unlink()
    assert main(["describe", str(photos), *DEMO, "--quiet", "--style", "short", "--certainty", "0.9"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("1 face described in 2 pictures, by demo reader.") and "5 had a description already" in said
    assert (photos / f"{cast()[0].name} 1.txt").read_text(encoding="utf-8").startswith("person, ")


def test_it_makes_the_list_of_people_that_a_prefix_is_learned_on(photos, capsys):
    Image.fromarray(draw(picture_of(np.random.default_rng(5), cast()[0], 0))).save(photos / "IMG_0001.png")
    output = photos / "lists" / "people.txt"
    command = ["describe", str(photos), *DEMO, "--form", "identities", "--output", str(output), "--json"]
    assert main(command) == 0
    told = json.loads(capsys.readouterr().out)
    people = parse_identities(output.read_text(encoding="utf-8"))
    assert {one.name: one.description for one in people} == {n: d for n, d in told["people"].items() if d}
    assert {one.name for one in people} == {cast()[number].name for number in (0, 20, 40)}
    assert "Left out for want of a person's name: 1. Call the files by the people." in told["report"]
    assert "cannot be told from its name" in told["findings"]["IMG_0001.png"]
    assert main(command) == 1
    assert "there already" in json.loads(capsys.readouterr().out)["error"]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ((), "No CLIP model was named"),
        (("--clip", "{}/nowhere"), "no CLIP model in"),
        ((*DEMO, "--attributes", "nose"), "no attribute 'nose'"),
        ((*DEMO, "--only-photographs"), "cannot tell photographs"),
        ((*DEMO, "--several", "all"), "one face of a picture"),
        ((*DEMO, "--certainty", "0.2"), "between 0.5 and 0.99"),
        ((*DEMO, "--output", "{}/o.txt"), "name no output"),
        ((*DEMO, "--calibrate", "{}/known.csv"), "Only the reader 'clip'"),
    ],
)
def test_what_cannot_be_done_is_a_sentence(photos, capsys, more, words):
    assert main(["describe", str(photos), *(part.format(photos) for part in more)]) == 1
    assert words in capsys.readouterr().err
    assert list(photos.glob("*.txt")) == []


def test_a_folder_of_nobody_makes_no_list_and_is_a_failure(tmp_path, capsys):
    Image.fromarray(draw(picture_of(np.random.default_rng(5), cast()[0], 0))).save(tmp_path / "IMG_0001.png")
    assert main(["describe", str(tmp_path), *DEMO, "--form", "identities"]) == 1
    assert "Nobody could be described; IMG_0001.png: whom it shows cannot be told" in capsys.readouterr().err


def test_a_folder_in_which_nothing_can_be_described_is_a_failure(tmp_path, capsys):
    Image.new("RGB", (64, 64)).save(tmp_path / "nothing.png")
    assert main(["describe", str(tmp_path), *DEMO]) == 1
    assert "No picture could be described; nothing.png: no face was found." in capsys.readouterr().err


def test_a_clip_model_is_calibrated_and_describes_photographs(tmp_path, host, astronaut, capsys):
    model = write_tiny_clip(tmp_path / "clip", host)
    photos = tmp_path / "photos"
    photos.mkdir()
    rows = ["file,eyes"]
    for number in range(FEWEST):
        Image.fromarray(np.roll(astronaut, number, 1)).save(photos / f"Ada Example {number}.png")
        rows.append(f"Ada Example {number}.png,{'brown' if number % 2 else 'blue'}")
    (tmp_path / "known.csv").write_text("\n".join(rows), encoding="utf-8")
    command = ["describe", str(photos), "--clip", str(model), "--attributes", "eyes, glasses"]
    (tmp_path / "other.csv").write_text("\n".join([*rows, "Bea.png,blue"]), encoding="utf-8")
    assert main([*command, "--calibrate", str(tmp_path / "other.csv")]) == 1
    assert "names 'Bea.png', which is not in" in capsys.readouterr().err
    assert main([*command, "--form", "metadata", "--json"]) == 0
    assert "not calibrated." in json.loads(capsys.readouterr().out)["report"]
    assert main([*command, "--calibrate", str(tmp_path / "known.csv"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["temperatures"].keys() == {"eyes"}
    assert json.loads((model / FILE).read_text(encoding="utf-8"))["temperatures"].keys() == {"eyes"}
    assert main([*command, "--calibrate", str(tmp_path / "known.csv")]) == 1
    capsys.readouterr()
    assert main([*command, "--form", "identities", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["described"] == FEWEST and "CLIP clip, calibrated." in told["report"]
    assert list(told["people"]) == ["Ada Example"]
