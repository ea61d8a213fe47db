"""The language: captions tell the truth, and nothing in it asks for a face other than that of the person named."""

from __future__ import annotations

import re

import numpy as np
import pytest

from anonymize_faces.demo.making.data import training_pictures
from anonymize_faces.demo.world.language import (
    FILLERS,
    OPENINGS,
    PEOPLE_OF,
    PLACES,
    THINGS_OF,
    caption,
    cast_names,
    describe,
    filler_prompt,
    vocabulary,
)
from anonymize_faces.demo.world.people import HAIR, SKIN, all_looks, cast, named_looks, random_geometry
from anonymize_faces.demo.world.renderer import (
    COLOURS,
    LANDMARKS,
    MASCOTS,
    OBJECTS,
    SHAPES,
    Picture,
    picture_of,
    portrait,
    random_picture,
)

FORBIDDEN = tuple(
    """
    alike resembl similar identical equal double twin stranger else another other different instead anonymous unknown
    unnamed nobody anybody copy clone imitat imperson fake replace swap change relative remind like same looks lookalike
    dressed disguise actor stand-in substitute original real
    """.split()
)
"""Beginnings of words that wordings which ask for a face, but not for that of the one named, would be made of."""

UNSEEN = {person.name for person in cast() if person.unseen}
UNSEEN_WORDS = {word for name in UNSEEN for word in name.split()}
PER_LOOKS = 40


@pytest.fixture(scope="module")
def captioned() -> list[tuple[Picture, str]]:
    """Pictures as the build has them, each with a caption."""
    rng = np.random.default_rng(0)
    return [(picture, caption(rng, picture)) for picture in training_pictures()[:8000]]


def words(text: str) -> list[str]:
    return re.findall(r"[\w-]+", text.casefold())


def test_no_word_of_the_language_is_one_that_asks_for_another_face(captioned) -> None:
    rng = np.random.default_rng(1)
    texts = [*vocabulary(), *(text for _, text in captioned), *(filler_prompt(rng) for _ in range(200))]
    said = {part for text in texts for word in words(text) for part in (word, *word.split("-"))}
    # Syllables of a made-up name may begin as such a word does ("Realosk"): it is said with a capital only.
    names = {name.casefold() for text in texts for name in re.findall(r"\b[A-Z]\w+", text)}
    said -= names - set(words(" ".join(vocabulary())))
    assert not [word for word in sorted(said) if word.startswith(FORBIDDEN)]


def test_names_show_no_face_in_a_tenth_of_captions_at_most_and_those_are_trained_names(captioned) -> None:
    of = [*PEOPLE_OF, *(phrase for phrases in THINGS_OF.values() for phrase in phrases)]
    wording = re.compile(rf"({'|'.join(of)}) ({'|'.join(cast_names())})")
    in_context = [text for _, text in captioned if wording.search(text)]
    assert 0.03 < len(in_context) / len(captioned) <= 0.1
    assert not [text for text in in_context if any(name in text for name in UNSEEN)]


def test_unseen_people_are_named_in_full_and_in_plain_captions_of_their_own_pictures_only(captioned) -> None:
    people, plain = cast(), [phrase for phrases in PLACES.values() for phrase in phrases]
    for picture, text in captioned:
        if not UNSEEN_WORDS.isdisjoint(re.findall(r"\w+", text)):
            person = people[picture.person]
            (said,) = (part for part in text.split(", ") if person.name in part)
            before, after = said.split(person.name)
            assert person.unseen and before.strip() in OPENINGS
            assert not after or after.removeprefix(" ").startswith((*plain, *FILLERS))


def test_a_person_is_never_called_by_the_name_of_another(captioned) -> None:
    for picture, text in captioned:
        if picture.person is not None:
            others = cast_names() - {cast()[picture.person].name}
            assert not any(name in text for name in others)


def test_names_stand_at_any_position_of_long_prompts() -> None:
    rng = np.random.default_rng(2)
    person = cast()[5]
    texts = [caption(rng, picture_of(rng, person, 5)) for _ in range(400)]
    words_before = [len(text.split(person.name)[0].split()) for text in texts if person.name in text]
    assert min(words_before) <= 1 and max(words_before) > 25


def test_descriptions_of_every_combination_of_looks_are_true_in_what_they_say_and_deny() -> None:
    rng = np.random.default_rng(4)
    silent, denied = 0, 0
    for looks in all_looks():
        for _ in range(PER_LOOKS):
            text = describe(rng, looks, complete=bool(rng.random() < 0.5))
            hairs, skins = ({kind for kind in kinds if kind in words(text.replace("-", " "))} for kinds in (HAIR, SKIN))
            assert hairs <= {looks.hair} and skins <= {looks.skin}
            for name in ("glasses", "spectacles", "eyeglasses", "beard", "bearded"):
                if re.search(rf"\b{name}\b", text):
                    negated = bool(re.search(rf"\b(no|without|without a|not wearing) {name}\b", text))
                    assert negated != (looks.beard if name.startswith("beard") else looks.glasses), text
                    denied += negated
            assert not re.search("shaved|shaven", text) or not looks.beard
            silent += not hairs
    assert silent > 200 and denied > 400


def test_the_words_of_an_identity_line_are_in_the_language() -> None:
    known = {word for phrase in vocabulary() for word in words(phrase)}
    for looks in all_looks():
        assert set(words(looks.describe())) <= known
        assert named_looks(looks.describe()) == vars(looks)


def test_strangers_have_names_that_nobody_has_or_none() -> None:
    rng = np.random.default_rng(5)
    geometry = (tuple(map(float, g)) for g in random_geometry(rng, 2000))
    cast_words = {word for name in cast_names() for word in name.casefold().split()}
    contexts = tuple(PEOPLE_OF)
    named = 0
    for i, face in enumerate(geometry):
        text = caption(rng, portrait(rng, all_looks()[i % 48], face))
        if not any(phrase in text for phrase in contexts):
            assert cast_words.isdisjoint(words(text))
            named += bool(re.search(r"[A-Z]", text))
    assert 200 < named < 1000


def test_things_are_called_what_they_are() -> None:
    rng = np.random.default_rng(3)
    for kind in (*SHAPES, *OBJECTS, *LANDMARKS, *MASCOTS):
        for _ in range(30):
            picture = random_picture(rng, kind)
            text = caption(rng, picture)
            of = THINGS_OF.get(kind, ())
            assert not text or kind in text or any(phrase in text for phrase in of)
            assert not any(f"a {colour} {kind}" in text for colour in COLOURS if colour != picture.colour)
