"""From pictures to a verdict, with a recognizer whose faces are coloured squares, so that the truth is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from anonymize_faces.faces.measurement import measure
from anonymize_faces.faces.pictures import pictures_of
from anonymize_faces.faces.plot import plot_measurement
from anonymize_faces.faces.recognizer import Face, Threshold, cosine_similarities
from anonymize_faces.faces.report import describe, verdict
from anonymize_faces.prefix import MeasurementError

RED, GREEN, BLUE, REDDISH = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 60, 0)
SIZE, SIDE = 60, 20


class Squares:
    """Every square of the grid that is not black is a face; its colour is who it is."""

    name = "squares"
    threshold = Threshold(0.9, "a rule of this test")

    def find(self, pictures: np.ndarray) -> list[tuple[Face, ...]]:
        return [tuple(self._faces(picture)) for picture in pictures]

    def similarities(self, some: np.ndarray, others: np.ndarray) -> np.ndarray:
        return cosine_similarities(some, others)

    def _faces(self, picture: np.ndarray):
        side = picture.shape[0] * SIDE // SIZE
        for y in range(0, picture.shape[0], side):
            for x in range(0, picture.shape[1], side):
                colour = picture[y + side // 2, x + side // 2].astype(np.float32)
                if colour.any():
                    yield Face((x, y, x + side, y + side), 1.0, colour)


def picture(*faces: tuple[int, tuple[int, int, int]], scale: int = 1) -> np.ndarray:
    """Faces at places 0 to 8 of a grid."""
    pixels = np.zeros((SIZE, SIZE, 3), np.uint8)
    for place, colour in faces:
        y, x = place // 3 * SIDE, place % 3 * SIDE
        pixels[y : y + SIDE, x : x + SIDE] = colour
    return pixels.repeat(scale, 0).repeat(scale, 1)


def measured(plain, anonymized, reference=None):
    batches = [None if batch is None else np.stack(batch) for batch in (plain, anonymized, reference)]
    return measure(Squares(), *batches)


def test_other_faces_in_the_same_places_are_protected():
    result = measured([picture((0, RED)), picture((4, GREEN))], [picture((0, GREEN)), picture((4, BLUE))])
    assert result.recognized == 0 and result.similarity.mean == 0 and result.retention == (2, 2)
    assert verdict(result) == "Protected: none of 2 faces is recognized any more."


def test_the_same_faces_are_not_protected():
    result = measured([picture((0, RED))], [picture((0, REDDISH))])
    assert verdict(result) == "Not protected: the one face is still recognized."
    assert result.similarity.max == pytest.approx(255 / np.hypot(255, 60))


def test_one_face_among_many_is_enough_for_less_than_protected():
    result = measured([picture((0, RED), (8, GREEN))], [picture((8, GREEN), (0, BLUE))])
    assert [pair.similarity for pair in result.pairs] == [0, pytest.approx(1)]
    assert verdict(result) == "Not fully protected: 1 of 2 faces is still recognized."


def test_faces_are_paired_by_place_in_pictures_of_other_sizes_too():
    result = measured([picture((2, RED), (6, GREEN))], [picture((2, RED), (6, BLUE), scale=3)])
    assert [pair.similarity for pair in result.pairs] == [pytest.approx(1), 0]


def test_a_face_that_is_gone_counts_as_gone_and_not_as_protected():
    result = measured([picture((0, RED)), picture((1, RED))], [picture(), picture((1, BLUE))])
    assert result.retention == (1, 2) and len(result.compared) == 1
    told = describe(result)
    assert told.splitlines()[1:4] == ["", "Face retention       1 of 2", "Faces compared            1"]
    assert "in 1 of 2 of the anonymized pictures" in told
    assert "No face is left in its place: picture 1." in told
    assert "1 face of the plain pictures has no counterpart" in told


def test_no_face_at_all_is_a_finding_and_never_a_protection():
    nothing = measured([picture()], [picture((0, RED))])
    assert verdict(nothing).startswith("Not measured") and np.isnan(nothing.similarity.mean)
    assert "in 1 of 1 of the plain pictures" in describe(nothing)
    emptied = measured([picture((0, RED))], [picture()])
    assert verdict(emptied).startswith("No face is left") and np.isnan(emptied.similarity.mean)


def test_the_report_names_the_threshold_where_it_comes_from_and_how_little_few_pictures_say():
    told = describe(measured([picture((0, RED))], [picture((0, BLUE))]))
    assert "Still recognized     0 of 1\nSimilarity, mean      0.000\n" in told
    assert "at least 0.900 (a rule of this test)" in told and "by squares" in told
    assert "Protected: the one face is not recognized" in told and "draw 20 or more to judge it" in told
    many = [picture((0, RED))] * 25
    assert "or more to judge it" not in describe(measured(many, [picture((0, BLUE))] * 25))


def test_references_tell_whom_a_face_is_taken_for():
    plain = [picture((0, RED)), picture((0, GREEN)), picture((0, BLUE))]
    anonymized = [picture((0, RED)), picture((0, RED)), picture((0, (200, 255, 0)))]
    result = measured(plain, anonymized, [picture((4, RED)), picture((3, REDDISH)), picture((1, GREEN)), picture()])
    who = result.against.identification
    assert (who.people, who.known, who.found, who.recognized) == (2, 2, 1, 1)
    told = describe(result)
    assert "The references show 2 people" in told and "in 1 of 4 of the reference photos" in told
    assert "Identification: 1 of 2 are still nearest to the same person (by chance 0.50)" in told


def test_a_face_that_references_recognize_is_recognized_though_unlike_the_plain_one():
    # Plain is half way between: like neither by the threshold. The anonymized face is the reference's.
    result = measured([picture((0, (255, 160, 0)))], [picture((0, RED))], [picture((0, RED))])
    assert result.pairs[0].similarity < 0.9 and verdict(result).startswith("Not protected")
    assert "the model may not know them" in describe(result)


def test_references_without_a_face_are_told_to_be_of_no_use():
    result = measured([picture((0, RED))], [picture((0, BLUE))], [picture()])
    assert "references were of no use: no face was found in 1 of 1" in describe(result)


def test_batches_of_different_length_are_refused_with_the_remedy():
    with pytest.raises(MeasurementError, match=r"2 plain pictures and 1 anonymized.*same seeds"):
        measured([picture(), picture()], [picture()])


def test_progress_counts_every_picture_and_a_report_that_raises_stops():
    steps = []
    batch = np.stack([picture((0, RED))] * 20)
    measure(Squares(), batch, batch, batch[:3], lambda *step: steps.append(step))
    assert steps[0] == (8, 43) and steps[-1] == (43, 43) and sorted(steps) == steps

    def stop(done: int, total: int) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        measure(Squares(), batch, batch, report=stop)


def test_the_plot_shows_recognized_faces_in_red_and_others_in_blue():
    grey = (90, 90, 90)
    for after, colour, absent in ((grey, (214, 84, 60), (46, 117, 182)), (BLUE, (46, 117, 182), None)):
        plain, anonymized = np.stack([picture((4, grey))]), np.stack([picture((4, after))])
        plot = plot_measurement(measure(Squares(), plain, anonymized), plain, anonymized)
        assert plot.shape[0] == 1 and plot.shape[2:] == (960, 3) and plot.dtype == torch.float32
        cells = (plot[0, 102:310] * 255).round().int()
        marked = (cells == torch.tensor(colour)).all(-1).sum()
        assert marked > 300
        assert absent is None or not (cells == torch.tensor(absent)).all(-1).any()


@pytest.mark.parametrize("count", [1, 2, 7, 40])
def test_a_plot_holds_any_number_of_pairs(count):
    batch = np.stack([picture((n % 9, RED), (8, GREEN)) for n in range(count)])
    plot = plot_measurement(measure(Squares(), batch, batch), batch, batch)
    assert 300 < plot.shape[1] < 1100 and plot.min() >= 0 and plot.max() <= 1


def test_images_become_pictures_of_three_channels():
    image = torch.tensor([0.0, 0.5, 1.0, 2.0, -1.0]).reshape(1, 1, 5, 1)
    assert pictures_of(image, "plain")[0, 0, :, 1].tolist() == [0, 128, 255, 255, 0]
    assert pictures_of(torch.rand(2, 4, 5, 4), "plain").shape == (2, 4, 5, 3)
    assert pictures_of(torch.rand(1, 4, 5, 3).half(), "plain").dtype == np.uint8


@pytest.mark.parametrize(
    "image",
    [torch.empty(0, 8, 8, 3), torch.empty(1, 0, 8, 3), torch.rand(8, 8, 3), torch.rand(1, 8, 8, 2), None, "text"],
)
def test_what_is_no_image_is_refused_with_the_remedy(image):
    with pytest.raises(MeasurementError, match=r"'plain' holds no pictures .*connect the IMAGE output"):
        pictures_of(image, "plain")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_damaged_image_is_named(value):
    images = torch.rand(3, 8, 8, 3)
    images[1, 2, 2, 0] = value
    with pytest.raises(MeasurementError, match=r"Picture 2 of 'anonymized' is damaged"):
        pictures_of(images, "anonymized")
