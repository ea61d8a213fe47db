"""A reader that is surer than it is right comes to be as sure as it is right."""

from __future__ import annotations

import numpy as np
import pytest

from anonymize_faces.captions.attributes import VOCABULARY
from anonymize_faces.captions.calibration import FEWEST, fit, fitted_temperature, read_known_answers, tempered
from anonymize_faces.prefix.errors import DescriptionError


def softmax(logits: np.ndarray) -> np.ndarray:
    raised = np.exp(logits - logits.max(1, keepdims=True))
    return raised / raised.sum(1, keepdims=True)


@pytest.mark.parametrize("temperature", [0.4, 1.0, 5.0])
def test_the_temperature_with_which_answers_were_drawn_is_found(temperature):
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (4000, 5))
    right = [int(rng.choice(5, p=row)) for row in softmax(logits / temperature)]
    read = softmax(logits)
    assert fitted_temperature(read, right) == pytest.approx(temperature, rel=0.1)
    calibrated = tempered(read, fitted_temperature(read, right))
    assert (calibrated.argmax(1) == right).mean() == pytest.approx(calibrated.max(1).mean(), abs=0.03)


def test_ranks_stay_and_nothing_known_stays_nothing():
    read = np.array([[0.7, 0.2, 0.1], [0.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    warm = tempered(read, 3.0)
    assert warm[0].argsort().tolist() == read[0].argsort().tolist() and not warm[1].any()
    assert np.allclose(warm.sum(1), [1, 0, 1]) and np.allclose(tempered(read, 1.0), read)


def test_only_attributes_of_which_enough_is_known_are_fitted(tmp_path):
    lines = ["file,hair,eyes,other"] + [f"{number}.png,black,{'blue' if number else ''},x" for number in range(FEWEST)]
    (tmp_path / "known.csv").write_text("\n".join(lines), encoding="utf-8-sig")
    known = read_known_answers(tmp_path / "known.csv", VOCABULARY)
    assert known["1.png"] == {"hair": 0, "eyes": 1} and known["0.png"] == {"hair": 0}
    read = {one.name: np.full((FEWEST, len(one.answers)), 1 / len(one.answers)) for one in VOCABULARY}
    assert fit(VOCABULARY, read, list(known.values())).keys() == {"hair"}


@pytest.mark.parametrize(
    ("table", "words"),
    [("", "no column 'file'"), ("name,hair\na,black\n", "no column 'file'"), ("file,hair\na.png,green\n", "Line 2")],
)
def test_tables_that_cannot_be_read_are_refused(tmp_path, table, words):
    (tmp_path / "known.csv").write_text(table, encoding="utf-8")
    with pytest.raises(DescriptionError, match=words):
        read_known_answers(tmp_path / "known.csv", VOCABULARY)
    with pytest.raises(DescriptionError, match=r"There is no table '.*nowhere.csv'"):
        read_known_answers(tmp_path / "nowhere.csv", VOCABULARY)
    with pytest.raises(DescriptionError, match="cannot be read"):
        read_known_answers(tmp_path, VOCABULARY)
