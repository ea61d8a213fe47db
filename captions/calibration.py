"""Corrects how sure a reader is: one temperature for each attribute, fitted on pictures whose answers are known.

A network that compares pictures with words is surer than it is right. With p_T ∝ p^(1/T) its ranking stays and its
certainty can come true (Guo et al., arXiv 1706.04599, 4.2). T minimizes the mean negative log-likelihood of the known
answers.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ..prefix.errors import DescriptionError, shown
from .attributes import Attribute
from .readers import LooksReader, Probabilities

FILE = "calibration.json"
"""Lies beside the weights that it is about."""

COOLEST, HOTTEST = 0.05, 20.0
STEPS = 400
TINY = 1e-12
FEWEST = 20
"""Known answers that an attribute's temperature is fitted on, at least."""


class Calibrated:
    """A `LooksReader` whose certainty is corrected.

    Args:
        reader: any.
        temperatures: by attribute; 1 where there is none.
    """

    def __init__(self, reader: LooksReader, temperatures: Mapping[str, float]) -> None:
        self.name = f"{reader.name}, calibrated"
        self.attributes, self.margin, self.batch = reader.attributes, reader.margin, reader.batch
        self.uncalibrated, self.temperatures = reader, dict(temperatures)

    def read(self, pictures: Sequence[np.ndarray]) -> Probabilities:
        """See `LooksReader`."""
        return {
            name: tempered(probabilities, self.temperatures.get(name, 1.0))
            for name, probabilities in self.uncalibrated.read(pictures).items()
        }


def tempered(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities [n, answers] at a temperature; rows of zeros stay."""
    given = np.asarray(probabilities, np.float64)
    logits = np.log(np.maximum(given, TINY)) / temperature
    raised = np.exp(logits - logits.max(1, keepdims=True))
    return np.where(given.sum(1, keepdims=True) > 0, raised / raised.sum(1, keepdims=True), 0.0)


def fitted_temperature(probabilities: np.ndarray, right: Sequence[int]) -> float:
    """The temperature of the least negative log-likelihood.

    Args:
        probabilities: [n, answers], as read.
        right: the number of each picture's right answer.
    """
    rows = np.arange(len(right))
    losses = {
        float(temperature): float(-np.log(np.maximum(tempered(probabilities, temperature)[rows, right], TINY)).mean())
        for temperature in np.geomspace(COOLEST, HOTTEST, STEPS)
    }
    return min(losses, key=losses.__getitem__)


def fit(attributes: Sequence[Attribute], read: Probabilities, known: Sequence[Mapping[str, int]]) -> dict[str, float]:
    """A temperature for each attribute of which enough is known.

    Args:
        read: of n pictures.
        known: of each picture the numbers of the right answers, by attribute.
    """
    temperatures = {}
    for attribute in attributes:
        rows = [row for row, answers in enumerate(known) if attribute.name in answers]
        if len(rows) >= FEWEST:
            right = [known[row][attribute.name] for row in rows]
            temperatures[attribute.name] = fitted_temperature(np.asarray(read[attribute.name])[rows], right)
    return temperatures


def read_known_answers(path: Path, attributes: Sequence[Attribute]) -> dict[str, dict[str, int]]:
    """Known answers from a CSV table: a column `file`, and one for each attribute that is known; empty cells are not.

    Returns:
        By file, the numbers of the right answers by attribute.

    Raises:
        DescriptionError: it is not there, cannot be read, lacks the column, or has a word that is no answer.
    """
    numbers = {attribute.name: {word: n for n, word in enumerate(attribute.words)} for attribute in attributes}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except FileNotFoundError as error:
        raise DescriptionError(f"There is no table '{shown(path)}': name a CSV file with known answers.") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DescriptionError(f"'{shown(path)}' cannot be read as a table ({error}): save it as CSV.") from error
    if not rows or "file" not in rows[0]:
        raise DescriptionError(
            f"'{shown(path)}' has no column 'file': its first line names the columns, 'file' and attributes such as"
            f" {', '.join(list(numbers)[:3])}."
        )
    known: dict[str, dict[str, int]] = {}
    for line, row in enumerate(rows, start=2):
        told = {name: (row.get(name) or "").strip() for name in numbers}
        for name, word in told.items():
            if word and word not in numbers[name]:
                raise DescriptionError(
                    f"Line {line} of '{shown(path)}' has '{word}' for {name}: write one of {', '.join(numbers[name])},"
                    " or nothing."
                )
        known[(row["file"] or "").strip()] = {name: numbers[name][word] for name, word in told.items() if word}
    return known


def save_temperatures(temperatures: Mapping[str, float], path: Path) -> None:
    """Writes them for `load_temperatures`."""
    path.write_text(json.dumps({"temperatures": dict(temperatures)}, indent=1) + "\n", encoding="utf-8")


def load_temperatures(folder: Path) -> dict[str, float]:
    """What was kept beside a reader's weights; nothing if nothing was.

    Raises:
        DescriptionError: the file is damaged.
    """
    path = folder / FILE
    if not path.is_file():
        return {}
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))["temperatures"]
        temperatures = {str(name): float(value) for name, value in kept.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise DescriptionError(f"'{shown(path)}' is damaged: remove it, or calibrate anew.") from error
    if not all(COOLEST <= value <= HOTTEST for value in temperatures.values()):
        raise DescriptionError(f"'{shown(path)}' holds temperatures out of range: remove it, or calibrate anew.")
    return temperatures
