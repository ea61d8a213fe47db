"""What several pictures of one person say."""

from __future__ import annotations

import numpy as np

from anonymize_faces.captions.attributes import VOCABULARY
from anonymize_faces.captions.describing import DescribingSettings, describe, in_order
from anonymize_faces.captions.people import describe_people
from anonymize_faces.captions.report import report_of_people, table_of_people
from anonymize_faces.tests.support.looks import ChosenFaces, ChosenLooks, picture
from anonymize_faces.trainer.data.identities import parse_identities
from anonymize_faces.trainer.data.list_text import sameness


def people(*photos, certainty=0.85, check=lambda line: ()):
    """People described from photographs: a name, and what is read of each."""
    looks = [told for _, told in photos]
    reader = ChosenLooks(lambda crop: looks[crop[0, 0, 1]])
    pictures = [picture(1 if told else 0, second=number) for number, told in enumerate(looks)]
    settings = DescribingSettings(certainty=certainty)
    told = in_order(describe(enumerate(pictures), ChosenFaces(), reader, settings))
    pairs = [(photos[one.picture][0], one) for one in told]
    return describe_people(pairs, VOCABULARY_READ, settings, sameness, check)


VOCABULARY_READ = [one for one in VOCABULARY if one.usual]
BLACK, BROWN = {"hair": ("black", 0.95)}, {"hair": ("brown", 0.95)}
UNSURE = {"hair": ("brown", 0.6)}


def test_the_majority_counts_and_a_split_says_nothing():
    with_, without = ({**BLACK, "glasses": (word, 0.95)} for word in ("glasses", "none"))
    (one,) = people(("Ada Example", with_), ("ada  EXAMPLE", without))
    assert one.name == "Ada Example" and one.photos == 2 and one.description == "a person with black hair"
    assert [a.why for a in one.answers if a.attribute == "glasses"] == ["the photographs differ"]
    (one,) = people(("Ada", with_), ("Ada", without), ("Ada", with_))
    assert one.description == "a person with black hair and glasses"
    (one,) = people(("Ada", UNSURE), ("Ada", UNSURE))
    assert one.description == "a person"


def test_photographs_that_are_not_sure_vote_too():
    (one,) = people(("Ada", UNSURE), ("Ada", BLACK), ("Ada", UNSURE))
    assert one.description == "a person"
    (one,) = people(*[("Ada", {"glasses": ("none", 0.6)})] * 9, ("Ada", {"glasses": ("glasses", 0.9)}))
    assert one.description == "a person"
    (one,) = people(("Ada", BLACK), ("Ada", UNSURE))
    assert [a.why for a in one.answers if a.attribute == "hair"] == ["the photographs differ"]
    (one,) = people(("Ada", UNSURE), ("Ada", BROWN), ("Ada", BLACK))
    assert one.description == "a person with brown hair"
    (one,) = people(("Ada", {"glasses": ("none", 0.95)}), ("Ada", BLACK))
    assert one.description == "a person with black hair and no glasses", "what cannot be read has no vote"


def test_years_are_the_photographs_mean():
    (one,) = people(("Ada", {"age": ("20 to 29", 0.95)}), ("Ada", {"age": ("30 to 44", 0.95)}))
    assert one.description == "a person aged 20 to 44"
    (one,) = people(("Ada", {"age": ("20 to 29", 0.95)}), ("Ada", {"age": ("60 or more", 0.95)}))
    assert one.description == "a person"


def test_a_name_never_gets_into_a_description_and_lists_read_what_comes_out():
    found = people(("Ada Example", BLACK), ("Pale", {**BROWN, "skin": ("pale", 1.0)}), ("", BLACK), ("Bob", {}))
    assert [person.name for person in found] == ["Ada Example", "Pale", "Bob"]
    lines = [person.line for person in found if person.description]
    assert [one.name for one in parse_identities("\n".join(lines))] == ["Ada Example", "Pale"]
    assert found[2].finding == "no face was found" and not found[2].description


def test_whom_a_list_cannot_hold_is_left_out_with_the_reason():
    (odd,) = people(("Ada: # Example", BLACK), check=parse_identities)
    assert odd.finding and not odd.description
    found = people(("black hair", BLACK), ("Ada", BLACK), check=parse_identities)
    assert [bool(person.description) for person in found] == [False, True]
    assert "has the name in the description" in found[0].finding
    report = report_of_people(found, "a reader")
    assert report.startswith("1 of 2 people described from 2 pictures") and "black hair: Their line has" in report
    assert 'black hair,,,,,"Their line has' in table_of_people(found)
    assert np.isclose(float(table_of_people(found).split("Ada,hair,black,")[1].split(",")[0]), 0.95)
