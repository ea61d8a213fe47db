"""Pictures to sentences: what is said, what is left out, and what becomes of pictures without one face."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from anonymize_faces.captions.attributes import PICTURE, VOCABULARY
from anonymize_faces.captions.crops import crop
from anonymize_faces.captions.describing import CaptionWriter, DescribingSettings, decided, describe, facts_of, in_order
from anonymize_faces.captions.report import report_of_pictures, table_of_pictures
from anonymize_faces.prefix.errors import DescriptionError
from anonymize_faces.tests.support.looks import ChosenFaces, ChosenLooks, picture

BY_NAME = {one.name: one for one in VOCABULARY}
LOOKS = {"hair": ("black", 0.97), "glasses": ("glasses", 0.7), "skin": ("pale", 0.9), "fringe": ("no", 0.99)}


def described(pictures, reader=None, **settings):
    reader = reader or ChosenLooks(lambda crop: LOOKS)
    return in_order(describe(enumerate(pictures), ChosenFaces(), reader, DescribingSettings(**settings)))


def test_what_is_certain_is_said_and_the_table_tells_the_rest():
    (one,) = described([picture()])
    assert one.caption == "a person with black hair and pale skin" and one.finding == ""
    table = table_of_pictures([one], lambda number: f"picture {number}")
    assert "picture 0,hair,black,0.970,yes,\n" in table
    assert "picture 0,glasses,glasses,0.700,no,not certain enough\n" in table
    assert "picture 0,fringe,no,0.990,no,nothing to say\n" in table
    assert "picture 0,age,,0.000,no,cannot tell\n" in table
    report = report_of_pictures([one], str, "chosen looks")
    assert report.startswith("1 face described in 1 picture, by chosen looks.") and "glasses 1" in report


@pytest.mark.parametrize(("certainty", "said"), [(0.5, 3), (0.7, 3), (0.71, 2), (0.9, 2), (0.95, 1), (0.99, 0)])
def test_certainty_is_what_is_said_depends_on(certainty, said):
    (one,) = described([picture()], certainty=certainty)
    assert sum(answered.said for answered in one.answers) == said


def test_each_number_of_faces_has_an_answer():
    pictures = [picture(1), picture(0), picture(3)]
    largest, skip, everyone = (described(pictures, several=choice) for choice in ("largest", "skip", "all"))
    assert [(one.picture, one.described, one.finding) for one in largest] == [
        (0, True, ""),
        (1, False, "no face was found"),
        (2, True, "3 faces were found: the largest is described"),
    ]
    assert largest[2].crop.shape[0] > largest[0].crop.shape[0]
    assert [one.described for one in skip] == [True, False, False] and "3 faces were found: skipped" in skip[2].finding
    assert [one.picture for one in everyone] == [0, 1, 2, 2, 2]
    assert [one.finding for one in everyone[2:]] == ["face 1 of 3", "face 2 of 3", "face 3 of 3"]


def test_pictures_come_in_order_whatever_their_sizes_and_however_many_are_read_at_once():
    pictures = [picture(number % 3, 40 + number, second=number) for number in range(10)]
    seen = []
    reader = ChosenLooks(lambda crop: seen.append(crop[0, 0, 1]) or {"hair": ("red", 1.0)})
    told = described(pictures, reader)
    assert [one.picture for one in told] == list(range(10)) and len(seen) == 6
    assert [one.crop[0, 0, 1] for one in told if one.described] == seen


def test_drawings_are_skipped_where_that_is_asked_for():
    def read(crop):
        return {"hair": ("black", 1.0), "picture": ("drawing" if crop[0, 0, 1] else "photograph", 0.6)}

    reader = ChosenLooks(read)
    reader.attributes = (*reader.attributes, PICTURE)
    kept, skipped = described([picture(second=0), picture(second=9)], reader, only_photographs=True)
    assert kept.caption == "a person with black hair" and skipped.finding == "looks like a drawing: skipped"
    assert all(one.described for one in described([picture(second=0), picture(second=9)], reader))
    with pytest.raises(DescriptionError, match="cannot tell photographs"):
        described([picture()], only_photographs=True)


def test_years_are_said_as_a_range_of_two_neighbours_at_most():
    age = BY_NAME["age"]
    assert decided(age, np.array([0, 0, 0.5, 0.45, 0.05, 0]), 0.9).answers == ("20 to 29", "30 to 44")
    assert decided(age, np.array([0, 0, 0.95, 0.05, 0, 0]), 0.9).answers == ("20 to 29",)
    assert not decided(age, np.array([0, 0, 0.4, 0.3, 0.3, 0]), 0.9).said
    mood = BY_NAME["expression"]
    assert decided(mood, np.array([0.5, 0, 0, 0, 0.45, 0.05]), 0.9).answers == ("calm", "surprised")
    assert not decided(BY_NAME["hair"], np.array([0.5, 0.45, 0.05, 0, 0, 0, 0]), 0.9).said


def test_of_two_answers_that_are_as_likely_none_is_said():
    assert not decided(BY_NAME["gender"], np.array([0.5, 0.5]), 0.5).said


def test_what_cannot_be_true_together_is_not_said_together():
    looks = {name: (word, 1.0) for name, word in (("hair", "bald"), ("hair length", "long"), ("fringe", "yes"))}
    looks |= {"gender": ("woman", 1.0), "beard": ("none", 1.0)}
    (one,) = described([picture()], ChosenLooks(lambda crop: looks))
    assert one.caption == "a woman with a bald head"
    assert [answered.why for answered in one.answers if answered.attribute == "beard"] == [
        "not said beside gender: woman"
    ]


def test_a_varied_order_follows_from_seed_and_picture_and_says_the_same():
    looks = {"hair": ("black", 1.0), "skin": ("pale", 1.0), "glasses": ("glasses", 1.0), "eyes": ("blue", 1.0)}
    reader = ChosenLooks(lambda crop: looks)
    pictures = [picture() for _ in range(12)]
    first, again, other = (
        [one.caption for one in described(pictures, reader, order="varied", seed=seed)] for seed in (1, 1, 2)
    )
    assert first == again != other and len(set(first)) > 4
    grammar = CaptionWriter(reader.attributes, DescribingSettings()).grammar
    assert len({tuple(sorted(grammar.parse(caption).items())) for caption in first}) == 1


@pytest.mark.parametrize("wrong", [[[np.nan, 0]], [[0.9, 0.9]], [[-1, 1]], [[0.3, 0.3, 0.3]], [[0.5, 0.5]] * 2])
def test_answers_that_are_no_probabilities_are_refused(wrong):
    reader = ChosenLooks(lambda crop: LOOKS, "gender")
    reader.read = lambda pictures: {"gender": np.array(wrong)}
    with pytest.raises(DescriptionError, match="no probabilities"):
        described([picture()], reader)


def test_settings_out_of_range_are_refused():
    for wrong in ({"certainty": 0.4}, {"certainty": 1.0}, {"style": "flowery"}, {"several": "none"}):
        with pytest.raises(DescriptionError):
            dataclasses.replace(DescribingSettings(), **wrong)


def test_a_crop_is_square_inside_the_picture_and_has_a_margin():
    pixels = np.arange(100 * 60 * 3, dtype=np.uint32).reshape(100, 60, 3).astype(np.uint8)
    middle = crop(pixels, (20, 40, 40, 60), 0.25)
    assert middle.shape == (30, 30, 3) and np.array_equal(middle, pixels[35:65, 15:45])
    assert np.array_equal(crop(pixels, (0, 0, 20, 20), 0.25), pixels[:30, :30])
    assert crop(pixels, (0, 0, 60, 100), 0.5).shape == (60, 60, 3)
    assert crop(np.zeros((3000, 3000, 3), np.uint8), (0, 0, 3000, 3000), 0.5).shape == (1024, 1024, 3)
    assert crop(pixels, (1, 1, 5, 5), None) is pixels


def test_the_face_of_a_real_photograph_is_cut_out_with_hair_and_chin(astronaut):
    from anonymize_faces.faces.facenet import load_mtcnn

    finder = load_mtcnn(lambda network: None)
    reader = ChosenLooks(lambda crop: {"hair": ("brown", 1.0)}, margin=0.6)
    group = np.tile(astronaut[:256, 96:352], (1, 2, 1))
    nothing = np.zeros((12, 12, 3), np.uint8)
    told = in_order(describe(enumerate([astronaut, group, nothing]), finder, reader))
    assert [one.finding for one in told] == [
        "",
        "2 faces were found: the largest is described",
        "no face was found",
    ]
    found = told[0].crop
    assert 200 < found.shape[0] < 280 and facts_of(told[0].answers) == {"hair": ("brown",)}
    side = found.shape[0]
    assert any(np.array_equal(found, astronaut[:side, left : left + side]) for left in range(512 - side))
