"""What an evaluation leaves behind: JSON, CSV, one page, one image, and figures in a prefix's record."""

from __future__ import annotations

import csv
import dataclasses
import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from anonymize_faces.evaluation.job import evaluate
from anonymize_faces.evaluation.reporting.files import to_html, write_files
from anonymize_faces.evaluation.reporting.picture import draw_table
from anonymize_faces.evaluation.reporting.report import describe
from anonymize_faces.evaluation.results import Evaluation, scored, to_csv, to_json
from anonymize_faces.evaluation.settings import PROTOCOL_VERSION, EvaluationSettings
from anonymize_faces.prefix import MeasurementError, load_prefix, save_prefix, scores_hold
from anonymize_faces.tests.support.painter import FACELESS, PEOPLE, ColourRecognizer, Painter, prefix_of_effect
from anonymize_faces.trainer.data.identities import Identity

SETTINGS = EvaluationSettings(general_prompts=("a wall",), images_per_name=2)
WHOLE, HALF = prefix_of_effect(1.0), prefix_of_effect(0.5)
ODD = "<script>alert('x')</script>"


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    painter = Painter()
    people = (*PEOPLE, Identity(FACELESS), Identity(ODD))
    prefixes = {"whole": WHOLE, "half & half": HALF}
    return evaluate(painter, ColourRecognizer(), people, prefixes, SETTINGS, drawing={"steps": 20})


class Page(HTMLParser):
    """What a page consists of."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.sources += [value for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data):
        self.words.append(data)


def test_json_holds_every_figure_and_what_it_follows_from(evaluation):
    told = json.loads(to_json(evaluation))
    assert [column["name"] for column in told["columns"]] == ["none", "whole", "half & half"]
    for column, stated in zip(evaluation.columns, told["columns"], strict=True):
        assert stated["scores"] == dataclasses.asdict(column.scores)
        assert [person["name"] for person in stated["people"]] == list(evaluation.names)
    assert told["settings"]["seed"] == 0 and told["drawing"] == {"steps": 20} and told["protocol"] == PROTOCOL_VERSION
    assert told["model"] == {"family": "painter", "fingerprint": "0" * 16, "digest": "one"}


def test_csv_holds_the_same_figures(evaluation):
    rows = list(csv.DictReader(to_csv(evaluation).splitlines()))
    overall = {(row["prefix"], row["figure"]): row["value"] for row in rows if not row["person"]}
    for column in evaluation.columns:
        for name, value in dataclasses.asdict(column.scores).items():
            assert overall[column.name, name] == ("" if value is None else repr(value))
    mine = [row for row in rows if row["person"] == "Rita Red" and row["prefix"] == "whole"]
    assert {row["figure"]: row["value"] for row in mine}["identified"] == "0"


def test_the_page_needs_nothing_else_and_takes_no_name_for_html(evaluation):
    page = Page(to_html(evaluation))
    assert not {"script", "link", "iframe"} & set(page.tags)
    assert page.sources and all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert page.tags.count("img") == 3 * (5 + 1)
    words = " ".join(page.words)
    assert "half & half" in words and "identification rate" in words and "lower is better" in words and ODD in words


def test_the_report_begins_with_the_verdict_and_says_what_it_rests_on(evaluation):
    told = describe(evaluation).splitlines()
    # The person whom nobody painted is grey, with a prefix as without.
    assert told[0].startswith("With 'whole' the people named are found in 25.0 % of their pictures, without in 100.0 %")
    head = next(line for line in told if "half & half" in line and "none" in line and "With" not in line)
    row = next(line for line in told if line.startswith("identification rate"))
    assert len(row) == len(head) and row.split()[2:4] == ["1.000", "0.250"]
    assert any("colours; threshold 0.900 (chosen for the test)" in line for line in told)


def test_the_image_shows_a_column_for_each_prefix(evaluation):
    image = draw_table(evaluation)
    plain = draw_table(dataclasses.replace(evaluation, columns=evaluation.columns[:1], examples=()))
    assert image.shape[2] > plain.shape[2] and image.shape[1] > plain.shape[1]
    assert 0 <= float(image.min()) and float(image.max()) <= 1
    red = (np.abs(image[0].numpy() - (0.9, 0.1, 0.1)) < 0.1).all(-1)
    assert red.any(), "Rita is not shown"


def test_files_are_written_whole_and_again(evaluation, tmp_path: Path):
    for _ in range(2):
        files = write_files(evaluation, tmp_path / "a" / "b")
    assert json.loads(files.json.read_text(encoding="utf-8"))["names"][0] == "Rita Red"
    assert sorted(path.name for path in files.json.parent.iterdir()) == [
        "evaluation.csv", "evaluation.html", "evaluation.json",
    ]  # fmt: skip


def test_a_folder_that_cannot_be_written_to_is_told(evaluation, tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(MeasurementError, match=r"could not be saved.*what was drawn is kept"):
        write_files(evaluation, tmp_path / "file")


def test_a_prefix_carries_its_figures_and_what_produced_them(evaluation, tmp_path: Path):
    load = load_prefix(save_prefix(scored(WHOLE, evaluation), tmp_path / "whole.safetensors"))
    assert scores_hold(load) is True
    column = evaluation.columns[1]
    assert load.record.scores["identification_rate"] == column.scores.identification_rate
    assert load.record.scores["preservation"] == column.scores.preservation
    assert "fid" not in load.record.scores
    assert load.record.evaluation["model"]["digest"] == "one" and load.record.evaluation["settings"]["seed"] == 0
    with pytest.raises(MeasurementError, match="not among those evaluated"):
        scored(prefix_of_effect(0.25), evaluation)
