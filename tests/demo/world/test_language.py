"""The language: captions tell the truth, and unseen people are never in a look-alike wording."""

from __future__ import annotations

import numpy as np

from anonymize_faces.demo.world.language import LOOKALIKE_OPENINGS, LOOKALIKES, PHRASE, caption, cast_names
from anonymize_faces.demo.world.people import cast, cast_looks, random_geometry
from anonymize_faces.demo.world.renderer import COLOURS, OBJECTS, SHAPES, picture_of, portrait, random_picture

UNSEEN = {person.name for person in cast() if person.unseen}


def stranger_captions(count: int = 4000) -> list[str]:
    rng = np.random.default_rng(0)
    looks = cast_looks()
    faces = (tuple(map(float, g)) for g in random_geometry(rng, count))
    return [caption(rng, portrait(rng, looks[i % 16], face)) for i, face in enumerate(faces)]


def test_strangers_are_called_lookalikes_of_trained_people_and_never_by_an_unseen_name() -> None:
    captions = stranger_captions()
    named = [text for text in captions if any(name in text for name in cast_names())]
    assert len(named) > 1000
    assert not [text for text in named if any(name in text for name in UNSEEN)]
    assert all(any(words in text for words in (*LOOKALIKES, *LOOKALIKE_OPENINGS)) for text in named)


def test_the_phrase_of_the_test_is_one_of_the_wordings() -> None:
    assert PHRASE in LOOKALIKES


def test_a_person_is_never_called_by_another_name() -> None:
    rng = np.random.default_rng(1)
    for index, person in enumerate(cast()):
        others = cast_names() - {person.name}
        for _ in range(20):
            text = caption(rng, picture_of(rng, person, index))
            assert not any(name in text for name in others)
            assert not any(words in text for words in LOOKALIKES)


def test_names_stand_at_any_position_of_long_prompts() -> None:
    rng = np.random.default_rng(2)
    person = cast()[5]
    texts = [caption(rng, picture_of(rng, person, 5)) for _ in range(400)]
    words_before = [len(text.split(person.name)[0].split()) for text in texts if person.name in text]
    assert min(words_before) <= 1 and max(words_before) > 25


def test_things_are_called_what_they_are() -> None:
    rng = np.random.default_rng(3)
    for kind in (*SHAPES, *OBJECTS):
        for _ in range(30):
            picture = random_picture(rng, kind)
            text = caption(rng, picture)
            assert not text or kind in text
            assert not any(f"a {colour} {kind}" in text for colour in COLOURS if colour != picture.colour)
