"""The demo's reader as a reader of looks: in the demo's own words, with its own answers."""

from __future__ import annotations

import numpy as np

from anonymize_faces.captions.describing import describe, in_order
from anonymize_faces.captions.grammar import Grammar
from anonymize_faces.captions.readers import read_checked
from anonymize_faces.demo.measuring.looks_reader import DemoLooksReader, demo_attributes
from anonymize_faces.demo.measuring.reader import LOOKS, ReaderNet
from anonymize_faces.demo.measuring.recognizer import DemoRecognizer
from anonymize_faces.demo.world.people import cast
from anonymize_faces.demo.world.renderer import draw_all, picture_of, random_picture


def test_it_describes_as_the_demos_own_descriptions_do(reader: ReaderNet):
    rng = np.random.default_rng(31)
    shown = [cast()[number] for number in range(0, 64, 4)]
    pictures = draw_all([picture_of(rng, person, number) for number, person in enumerate(shown)])
    things = draw_all([random_picture(rng, "house")])
    large = pictures[:1].repeat(3, 1).repeat(3, 2)
    told = in_order(
        describe(enumerate([*pictures, *things, *large]), DemoRecognizer(reader), DemoLooksReader(net=reader))
    )
    right = [one.caption == person.looks.describe() for one, person in zip(told[:16], shown, strict=True)]
    assert sum(right) >= 15
    assert told[16].finding == "no face was found" and told[17].caption == told[0].caption


def test_its_attributes_and_answers_are_those_of_the_reader(reader: ReaderNet):
    attributes = demo_attributes()
    assert {one.name: len(one.answers) for one in attributes} == {name: len(of) for name, of in LOOKS.items()}
    picture = draw_all([picture_of(np.random.default_rng(1), cast()[0], 0)])
    read = read_checked(DemoLooksReader(net=reader), list(picture))
    assert all(np.isclose(rows.sum(), 1, atol=1e-4) for rows in read.values())
    grammar = Grammar(attributes)
    everything = {one.name: (one.words[-1],) for one in attributes}
    assert grammar.parse(grammar.say(everything)) == everything
