"""The attacker: learns, draws, is measured against the original photos; what it finds is told in plain words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anonymize_faces.demo.measuring.recognizer import DemoRecognizer
from anonymize_faces.faces.gallery import NOBODY
from anonymize_faces.finetuning.settings import FinetuningSettings
from anonymize_faces.photos import attack as attacking
from anonymize_faces.photos.attack import (
    TITLES,
    Attacked,
    PhotoSubject,
    attack,
    attack_both,
    gallery_of,
    person_of,
    scores_of,
)
from anonymize_faces.photos.plot import plot_similarities
from anonymize_faces.photos.report import LIMITS, describe_attacks, verdict
from anonymize_faces.photos.settings import HALF, JPEG, PURIFICATIONS, AttackSettings
from anonymize_faces.photos.transforms import purified
from anonymize_faces.prefix.errors import PhotoError
from anonymize_faces.runs import run_folder
from anonymize_faces.tests.support.breaking_off import BrokenOffError

EMPTY = np.full((64, 64, 3), 90, np.uint8)


def attacked(share: float, similarity: float = 0.5) -> Attacked:
    pictures = np.zeros((2, 64, 64, 3), np.uint8)
    return Attacked(pictures, 1.0, similarity, share, share, 0.99, (similarity,) * 2, (True,) * 2, ())


def test_an_attack_draws_and_scores(demo_denoiser: Any, stranger: list[np.ndarray]) -> None:
    recognizer = DemoRecognizer()
    person = person_of(recognizer, stranger, gallery_of(recognizer, stranger[:1]))
    how = AttackSettings(FinetuningSettings(steps=2), JPEG, prompts=("a photo of sks person",), images_per_prompt=2)
    reported: list[tuple[int, int]] = []
    found = attack(
        demo_denoiser, recognizer, stranger, person, how, report=lambda done, of: reported.append((done, of))
    )
    assert found.pictures.shape == (2, *stranger[0].shape) and len(found.similarities) == len(found.ranks) == 2
    assert found.photos_similarity > 0.9 and reported[-1] == (4, 4)
    told = describe_attacks(found, found, how, person, recognizer.threshold)
    assert "JPEG 75" in told and "ranks first" in told and told.endswith(LIMITS)


def test_a_pair_of_attacks_that_is_broken_off_goes_on_where_it_was(
    demo_denoiser: Any, stranger: list[np.ndarray], tmp_path: Path
) -> None:
    """Be it while the second one learns, or while it draws: nothing is learned twice."""
    recognizer = DemoRecognizer()
    person = person_of(recognizer, stranger)
    how = AttackSettings(FinetuningSettings(steps=3), JPEG, prompts=("a face of sks person",), images_per_prompt=1)
    reported: list[tuple[str, int]] = []

    def both(break_off_at: tuple[str, int] | None, runs: Path | None = tmp_path) -> list[Attacked]:
        reported.clear()

        def report(title: str, done: int, of: int) -> None:
            reported.append((title, done))
            if (title, done) == break_off_at:
                raise BrokenOffError

        return list(
            attack_both(demo_denoiser, recognizer, stranger[:2], stranger[2:], person, how, report=report, runs=runs)
        )

    whole = both(None, None)
    assert reported == [(title, done) for title in TITLES for done in (1, 2, 3, 4)]
    with pytest.raises(BrokenOffError):
        both((TITLES[1], 2))
    with pytest.raises(BrokenOffError):
        both((TITLES[1], 3))
    assert reported == [(TITLES[1], 3)]
    again = both(None)
    assert reported == [(TITLES[1], 4)] and not list(tmp_path.iterdir())
    for one, other in zip(whole, again, strict=True):
        assert np.array_equal(one.pictures, other.pictures) and one.similarities == other.similarities
        assert one.photos_similarity == other.photos_similarity


@pytest.mark.parametrize("title", TITLES)
def test_what_was_learned_outlives_an_error_in_scoring(
    title: str, demo_denoiser: Any, stranger: list[np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recognizer = DemoRecognizer()
    person = person_of(recognizer, stranger)
    how = AttackSettings(FinetuningSettings(steps=2), JPEG, prompts=("a face of sks person",), images_per_prompt=1)
    steps: list[tuple[str, int]] = []

    def both() -> tuple[Attacked, Attacked]:
        steps.clear()
        return attack_both(
            demo_denoiser,
            recognizer,
            stranger[:2],
            stranger[2:],
            person,
            how,
            report=lambda title, done, of: steps.append((title, done)),
            runs=tmp_path,
        )

    whole = both()
    scored: list[str] = []

    def failing(*_: Any) -> Any:
        scored.append(TITLES[len(scored) // 2])  # Pictures, then photos.
        if scored[-1] == title:
            raise RuntimeError("the recognizer failed")
        return scores_of(*_)

    with monkeypatch.context() as patched:
        patched.setattr(attacking, "scores_of", failing)
        with pytest.raises(RuntimeError, match="the recognizer failed"):
            both()
    again = both()
    assert not [done for done in steps if done[0] in TITLES[: 1 + TITLES.index(title)]], "learned or drew again"
    assert [np.array_equal(one.pictures, other.pictures) for one, other in zip(whole, again, strict=True)] == [True] * 2
    assert [one.similarities for one in whole] == [one.similarities for one in again]
    assert not list(tmp_path.iterdir())


def test_pictures_that_could_not_be_kept_are_told(
    demo_denoiser: Any, stranger: list[np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though what was learned could be."""
    recognizer = DemoRecognizer()
    how = AttackSettings(FinetuningSettings(steps=1), JPEG, prompts=("a face",), images_per_prompt=1)
    wrote = run_folder.put_whole

    def full(data: bytes, path: Path, overwrite: bool) -> None:
        if path.stem in TITLES:
            raise OSError(28, "No space left on device")
        wrote(data, path, overwrite)

    monkeypatch.setattr(run_folder, "put_whole", full)
    person = person_of(recognizer, stranger[:1])
    found = attack_both(demo_denoiser, recognizer, stranger[:1], stranger[:1], person, how, runs=tmp_path)
    told = describe_attacks(*found, how, person, recognizer.threshold)
    assert told.count("Nothing more could be saved during the run (No space left on device)") == 1


@pytest.mark.parametrize("how", PURIFICATIONS)
def test_every_purification_gives_a_picture_that_is_like_the_one_before(
    how: str, demo_denoiser: Any, stranger: list[np.ndarray]
) -> None:
    made = purified(stranger[0], how, demo_denoiser)
    assert made.dtype == np.uint8 and made.shape == stranger[0].shape
    assert np.abs(made.astype(float) - stranger[0]).mean() < 25


def test_photos_without_a_face_or_with_some_are_told() -> None:
    class Sees:
        name = "test"

        def find(self, pictures: np.ndarray) -> Any:
            face = type("Face", (), {"embedding": np.ones(4, np.float32)})()
            return [() if picture.max() == 90 else (face,) * int(picture[0, 0, 0]) for picture in pictures]

    two, one = EMPTY.copy(), EMPTY.copy()
    two[0, 0, 0], two[1], one[0, 0, 0], one[1] = 2, 200, 1, 200
    person = person_of(Sees(), [two, one, EMPTY])  # type: ignore[arg-type]
    assert person.number == 2
    assert "1 of 3 original photos show no face" in person.notes[0] and "several faces" in person.notes[1]
    with pytest.raises(PhotoError, match="No face was found in the original photos"):
        person_of(Sees(), [EMPTY])  # type: ignore[arg-type]
    with pytest.raises(PhotoError, match="photos of strangers"):
        gallery_of(Sees(), [EMPTY])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        (1.0, 0.1, "Protected against this attack"),
        (1.0, 0.6, "Weakly protected"),
        (1.0, 0.95, "Not protected"),
        (0.2, 0.0, "Not measured"),
    ],
)
def test_the_verdict_is_one_sentence(before: float, after: float, words: str) -> None:
    assert verdict(attacked(before), attacked(after)).startswith(words)


def test_a_report_without_strangers_does_not_rank() -> None:
    person = PhotoSubject(NOBODY, 1)
    how = AttackSettings(purification=HALF)
    told = describe_attacks(attacked(1.0), attacked(0.5), how, person, DemoRecognizer().threshold)
    assert "ranks first" not in told and HALF in told


def test_the_plot_shows_a_row_for_each_attack() -> None:
    plot = plot_similarities("title", {"one": (0.1, 0.95), "two": (0.4,)}, 0.9)
    assert plot.shape[0] == 1 and plot.shape[2:] == (960, 3) and float(plot.std()) > 0.01
