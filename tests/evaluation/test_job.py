"""The evaluation as one job: its figures, and that nothing of it is done twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file

from anonymize_faces.evaluation.job import DRAWN_BY_THE_MODEL, evaluate
from anonymize_faces.evaluation.picture_requests import general
from anonymize_faces.evaluation.results import Evaluation
from anonymize_faces.evaluation.scores import picture_distance
from anonymize_faces.evaluation.settings import EvaluationSettings
from anonymize_faces.faces.gallery import STRANGER, Gallery
from anonymize_faces.prefix import MeasurementError, PrefixMismatchError
from anonymize_faces.tests.support.breaking_off import BrokenOffError
from anonymize_faces.tests.support.painter import COLOURS, FACELESS, PEOPLE, ColourRecognizer, Painter, prefix_of_effect
from anonymize_faces.trainer.data.identities import Identity

SETTINGS = EvaluationSettings(
    general_prompts=("a wall", "a door"), images_per_name=2, images_per_prompt=3, batch_size=4
)
PORTRAITS, OTHERS = 3 * 2, 2 * 3
PHOTOS = Gallery(np.array(list(COLOURS.values()), np.float32), np.arange(3), "photos")


def run(
    painter: Painter, prefixes: dict[str, float], recognizer: ColourRecognizer | None = None, **options: Any
) -> Evaluation:
    options = {"settings": SETTINGS, "identities": PEOPLE, "gallery": PHOTOS} | options
    made = {name: prefix_of_effect(effect) for name, effect in prefixes.items()}
    recognizer = recognizer or ColourRecognizer()
    return evaluate(painter, recognizer, options.pop("identities"), made, drawing={"steps": 20}, **options)


def after(done_at_most: int):
    """A report that breaks the job off."""

    def report(done: int, total: int) -> None:
        if done > done_at_most:
            raise BrokenOffError

    return report


def test_figures_stand_side_by_side_and_say_who_is_still_there() -> None:
    found = run(Painter(), {"whole": 1.0, "half": 0.5, "nothing": 0.0})
    assert [column.name for column in found.columns] == ["none", "whole", "half", "nothing"]
    plain, whole, half, nothing = (column.scores for column in found.columns)
    assert plain.identification_rate == plain.recognition_rate == plain.face_retention == 1
    assert whole.identification_rate == whole.recognition_rate == 0 and whole.face_retention == 1
    assert whole.identity_similarity_max < half.identity_similarity_mean < plain.identity_similarity_mean
    assert plain.identity_similarity_mean < plain.identity_similarity_max <= 1
    assert nothing == plain
    assert plain.attribute_retention is None and plain.fid is None


def test_preservation_is_how_far_pictures_moved_by_what_another_noise_does() -> None:
    painter = Painter()
    found = run(painter, {"whole": 1.0})

    def pictures(noise: str, vectors: dict | None = None) -> np.ndarray:
        requests = general(SETTINGS, noise)
        latents = painter.sample(
            [request.prompt for request in requests], [request.seed for request in requests], vectors
        )
        return (painter.decode(latents).numpy() * 255).round().astype(np.uint8)

    plain, other = pictures("general"), pictures("other noise")
    moved = pictures("general", dict(prefix_of_effect(1.0).vectors))
    asked = picture_distance(plain, moved).mean() / picture_distance(plain, other).mean()
    assert asked > 1
    assert found.columns[1].scores.preservation == pytest.approx(asked, rel=1e-6)
    assert found.columns[0].scores.preservation == 0


def test_each_person_has_figures_of_their_own() -> None:
    people = (*PEOPLE, Identity(FACELESS))
    found = run(Painter(), {}, identities=people)
    rita, nemo = found.columns[0].people[0], found.columns[0].people[3]
    assert (rita.name, rita.pictures, rita.faces, rita.identified, rita.recognized) == ("Rita Red", 2, 2, 2, 2)
    assert (nemo.faces, nemo.similarity_mean, nemo.identified) == (0, None, None)
    assert found.columns[0].scores.face_retention == 0.75
    assert found.columns[0].scores.identification_rate == 1
    assert any(FACELESS in note and "No face is known" in note for note in found.notes)


def test_without_photos_the_plain_models_pictures_in_other_noise_stand_in() -> None:
    painter = Painter()
    found = run(painter, {"whole": 1.0}, gallery=None)
    assert found.gallery == {"source": DRAWN_BY_THE_MODEL, "known": 3, "strangers": 0}
    assert [column.scores.identification_rate for column in found.columns] == [1, 0]
    assert len(set(painter.painted)) == 2 * PORTRAITS + 2 * OTHERS
    assert any("no photo was given" in note for note in found.notes)


def test_strangers_of_the_same_looks_are_drawn_if_asked_for() -> None:
    found = run(Painter(), {}, settings=EvaluationSettings(general_prompts=(), strangers=2))
    assert found.gallery["strangers"] == 6
    assert not [column for column in found.columns if column.scores.preservation is not None]


def test_a_stranger_who_is_more_alike_takes_the_first_rank() -> None:
    twin = Gallery(
        np.array([*COLOURS.values(), (0.93, 0.125, 0.125)], np.float32) + 0.0, np.array([0, 1, 2, STRANGER]), "photos"
    )
    found = run(Painter(), {}, gallery=twin)
    assert found.columns[0].people[0].identified < 2
    assert found.columns[0].people[1].identified == 2


@pytest.mark.parametrize("done_at_most", [0, 5, PORTRAITS, 30, 45])
def test_broken_off_at_any_place_the_same_call_goes_on_where_it_was(tmp_path: Path, done_at_most: int) -> None:
    painter, recognizer = Painter(), ColourRecognizer()
    with pytest.raises(BrokenOffError):
        run(painter, {"whole": 1.0}, recognizer, runs=tmp_path, report=after(done_at_most))
    found = run(painter, {"whole": 1.0}, recognizer, runs=tmp_path)
    whole = run(Painter(), {"whole": 1.0})
    assert found.columns == whole.columns
    assert len(painter.painted) == 2 * (PORTRAITS + OTHERS) + OTHERS
    assert recognizer.looked == 2 * PORTRAITS


def test_what_is_saved_of_a_micro_batch_does_not_grow_with_those_before(tmp_path: Path) -> None:
    run(Painter(), {}, runs=tmp_path)
    saved = [load_file(file)["faces"] for file in tmp_path.glob("*/read-*")]
    assert sum(map(len, saved)) == PORTRAITS
    assert max(map(len, saved)) == SETTINGS.batch_size < PORTRAITS


def test_a_further_prefix_costs_its_own_pictures_only(tmp_path: Path) -> None:
    painter, recognizer = Painter(), ColourRecognizer()
    run(painter, {"whole": 1.0}, recognizer, runs=tmp_path)
    painter.painted.clear()
    recognizer.looked = 0
    both = run(painter, {"half": 0.5, "whole": 1.0}, recognizer, runs=tmp_path)
    assert len(painter.painted) == PORTRAITS + OTHERS and recognizer.looked == PORTRAITS
    assert both.columns == run(Painter(), {"half": 0.5, "whole": 1.0}).columns


def test_of_a_table_of_any_width_nothing_is_drawn_again(tmp_path: Path) -> None:
    many = {f"{number}": number / 16 for number in range(16)}
    small = EvaluationSettings(general_prompts=("a wall",), images_per_name=1, images_per_prompt=1)
    run(Painter(), many, runs=tmp_path, settings=small)
    painter = Painter()
    run(painter, many, runs=tmp_path, settings=small)
    assert not painter.painted


def test_another_model_or_seed_shares_no_pictures_and_another_recognizer_shares_them(tmp_path: Path) -> None:
    run(Painter("one"), {}, runs=tmp_path)
    again, other = Painter("one"), Painter("two")
    run(again, {}, ColourRecognizer("another"), runs=tmp_path)
    run(other, {}, runs=tmp_path)
    assert not again.painted and len(other.painted) == PORTRAITS + 2 * OTHERS
    reseeded = EvaluationSettings(**(vars(SETTINGS) | {"seed": 1}))
    run(again, {}, runs=tmp_path, settings=reseeded)
    assert len(again.painted) == PORTRAITS + 2 * OTHERS


def test_what_another_decoder_makes_of_the_same_latents_is_read_anew(tmp_path: Path) -> None:
    class Darker(Painter):
        def decode(self, latents):
            return super().decode(latents) * 0.5

    run(Painter(), {}, runs=tmp_path)
    painter, recognizer = Darker(), ColourRecognizer()
    run(painter, {}, recognizer, runs=tmp_path)
    assert not painter.painted and recognizer.looked == PORTRAITS


def test_a_file_that_was_damaged_is_done_anew(tmp_path: Path) -> None:
    run(Painter(), {}, runs=tmp_path)
    for path in tmp_path.rglob("*.safetensors"):
        path.write_bytes(path.read_bytes()[:-40])
    painter = Painter()
    assert run(painter, {}, runs=tmp_path).columns == run(Painter(), {}).columns
    assert len(painter.painted) == PORTRAITS + 2 * OTHERS


def test_a_folder_that_cannot_be_used_is_told_and_the_job_is_done(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")
    found = run(Painter(), {"whole": 1.0}, runs=tmp_path / "runs")
    assert found.columns == run(Painter(), {"whole": 1.0}).columns
    assert any("Nothing more could be saved" in note for note in found.notes)


def test_when_memory_runs_out_fewer_are_drawn_at_once() -> None:
    class Small(Painter):
        def sample(self, prompts, seeds, vectors=None):
            if len(prompts) > 1:
                raise MemoryError
            return super().sample(prompts, seeds, vectors)

    assert run(Small(), {"whole": 1.0}).columns == run(Painter(), {"whole": 1.0}).columns


def test_what_is_done_is_told_up_to_all_of_it(tmp_path: Path) -> None:
    for _ in range(2):  # The second time, everything is there.
        told: list[tuple[int, int]] = []
        run(Painter(), {"whole": 1.0}, gallery=None, runs=tmp_path, report=lambda *done, told=told: told.append(done))
        assert [done for done, _ in told] == sorted(done for done, _ in told)
        assert len({total for _, total in told}) == 1 and told[-1][0] == told[-1][1]


@pytest.mark.parametrize(
    ("prefixes", "people", "error", "words"),
    [
        ({"a": prefix_of_effect(1.0, width=5)}, PEOPLE, PrefixMismatchError, "have 5"),
        ({"a": prefix_of_effect(1.0, family="sdxl")}, PEOPLE, PrefixMismatchError, "SDXL"),
        (
            {"a": prefix_of_effect(1.0), "b": prefix_of_effect(1.0)},
            PEOPLE,
            MeasurementError,
            "'a' and 'b' are the same prefix",
        ),
        ({"none": prefix_of_effect(1.0)}, PEOPLE, MeasurementError, "rename it"),
        ({}, (), MeasurementError, "name at least one person"),
    ],
)
def test_what_would_mislead_is_refused_before_anything_is_drawn(prefixes, people, error, words) -> None:
    painter = Painter()
    with pytest.raises(error, match=words):
        evaluate(painter, ColourRecognizer(), people, prefixes, SETTINGS, drawing={})
    assert not painter.painted


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"prompts": ()}, "at least one prompt"),
        ({"prompts": ("a portrait of {nam}",)}, "names nobody: write {name}"),
        ({"images_per_name": 0}, "'images_per_name' is 0: set it to 1 or more"),
        ({"strangers": -1}, "set it to 0 or more"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, words) -> None:
    with pytest.raises(MeasurementError, match=words):
        EvaluationSettings(**settings)
