"""Lists what can be said of looks: attributes, each a multiple choice, and the words for every answer.

Nothing else is ever said. What singles a person out (moles, scars) and what only guesses could tell (ethnicity, mood)
is said where it is asked for by name.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..prefix.errors import DescriptionError

SUBJECT, AGE, PART = "subject", "age", "part"
"""Where an attribute stands in a sentence: "a woman", "aged 20 to 29", what comes after "with"."""

USUAL = "usual"
"""Stands for every attribute that is said without being asked for."""


@dataclass(frozen=True)
class Answer:
    """One answer of an attribute.

    Attributes:
        word: what tables, questions and calibrations call it.
        phrase: what a sentence says, an adjective where the attribute has a noun; empty: nothing.
        view: what a picture of it shows, for readers that compare pictures with words.
        alone: says everything there is to say of the attribute's noun, in a phrase of its own.
        others: further wordings of the same, which a rewritten sentence may use.
    """

    word: str
    phrase: str = ""
    view: str = ""
    alone: bool = False
    others: tuple[str, ...] = ()


@dataclass(frozen=True)
class Attribute:
    """A multiple choice about a face.

    Attributes:
        name: as an artist writes it.
        answers: of which one is right.
        place: see `SUBJECT`.
        noun: what the answers are adjectives of; attributes of one noun share a phrase ("long blond hair").
        article: whether that phrase begins with "a".
        bounds: years, first and last, of each answer where these are neighbouring ranges; None has no end.
        mixed: two answers may hold at once.
        usual: said without being asked for.
        silent_with: answers of other attributes beside which this one says nothing.
        question: what a language model is asked.
    """

    name: str
    answers: tuple[Answer, ...]
    place: str = PART
    noun: str = ""
    article: bool = False
    bounds: tuple[tuple[int, int | None], ...] = ()
    mixed: bool = False
    usual: bool = True
    silent_with: tuple[tuple[str, str], ...] = ()
    question: str = ""

    @property
    def words(self) -> tuple[str, ...]:
        """The answers' words."""
        return tuple(answer.word for answer in self.answers)

    def spans(self) -> Iterable[tuple[int, ...]]:
        """The groups of answers that can be said together, as their numbers."""
        yield from ((number,) for number in range(len(self.answers)))
        if self.bounds:
            yield from ((number, number + 1) for number in range(len(self.answers) - 1))
        elif self.mixed:
            yield from itertools.combinations(range(len(self.answers)), 2)


def _adjectives(words: str, noun: str, **others: tuple[str, ...]) -> tuple[Answer, ...]:
    return tuple(Answer(word, word, f"{word} {noun}", others=others.get(word, ())) for word in words.split())


def _shown_or_not(phrase: str, view: str, absent: str) -> tuple[Answer, ...]:
    return Answer("no", "", absent), Answer("yes", phrase, view)


_YEARS = ((0, 9), (10, 19), (20, 29), (30, 44), (45, 59), (60, None))
_AGE_VIEWS = (
    "a child under ten",
    "a teenager",
    "an adult in their twenties",
    "an adult in their thirties",
    "a middle-aged person of fifty",
    "an old person of seventy",
)

PICTURE = Attribute(
    "picture",
    (
        Answer("photograph", view="a real photograph"),
        Answer("drawing", view="a drawing"),
        Answer("painting", view="a painting"),
        Answer("cartoon", view="a cartoon"),
        Answer("3D render", view="a computer-generated 3D render"),
        Answer("statue", view="a statue"),
    ),
    usual=False,
    question="What kind of picture is this?",
)
"""Never said: it is asked where unreal pictures are to be left out; its first answer is a photograph."""

VOCABULARY = (
    Attribute(
        "gender",
        (
            Answer("woman", "a woman", "a woman", others=("a female person", "a lady")),
            Answer("man", "a man", "a man", others=("a male person",)),
        ),
        SUBJECT,
        question="Does the person look like a woman or like a man?",
    ),
    Attribute(
        "age",
        tuple(
            Answer(f"{first} to {last}" if last else f"{first} or more", view=view)
            for (first, last), view in zip(_YEARS, _AGE_VIEWS, strict=True)
        ),
        AGE,
        bounds=_YEARS,
        question="How old does the person look, in years?",
    ),
    Attribute(
        "hair length",
        (
            Answer("short", "short", "short hair"),
            Answer("shoulder-length", "shoulder-length", "shoulder-length hair"),
            Answer("long", "long", "long hair"),
        ),
        noun="hair",
        silent_with=(("hair", "bald"),),
        question="How long is the hair?",
    ),
    Attribute(
        "hair texture",
        _adjectives("straight wavy curly", "hair"),
        noun="hair",
        silent_with=(("hair", "bald"),),
        question="Is the hair straight, wavy or curly?",
    ),
    Attribute(
        "hair",
        (
            *_adjectives(
                "black brown blond red grey white", "hair", blond=("blonde",), red=("ginger",), grey=("gray",)
            ),
            Answer("bald", "a bald head", "a bald head", alone=True),
        ),
        noun="hair",
        question="What colour is the hair?",
    ),
    Attribute(
        "fringe",
        _shown_or_not("a fringe", "a fringe over the forehead", "a bare forehead"),
        silent_with=(("hair", "bald"),),
        question="Does a fringe of hair hang over the forehead?",
    ),
    Attribute("skin", _adjectives("pale tan dark", "skin"), noun="skin", question="What tone is the skin?"),
    Attribute(
        "eyes",
        _adjectives("brown blue green grey", "eyes", grey=("gray",)),
        noun="eyes",
        question="What colour are the eyes?",
    ),
    Attribute(
        "glasses",
        (
            Answer("none", "no glasses", "no glasses", others=("no spectacles", "no eyeglasses")),
            Answer("glasses", "glasses", "glasses", others=("spectacles", "eyeglasses")),
            Answer("sunglasses", "sunglasses", "sunglasses"),
        ),
        question="Does the person wear glasses?",
    ),
    Attribute(
        "beard",
        (
            Answer("none", "no beard", "no beard", others=("a clean-shaven face", "a shaved chin")),
            Answer("stubble", "stubble", "stubble"),
            Answer("moustache", "a moustache", "a moustache and no beard", others=("a mustache",)),
            Answer("beard", "a beard", "a beard", others=("a full beard",)),
        ),
        silent_with=(("gender", "woman"), ("age", "0 to 9")),
        question="What hair grows on the person's face?",
    ),
    Attribute(
        "face",
        _adjectives("narrow wide round", "face"),
        noun="face",
        article=True,
        usual=False,
        question="What shape is the face?",
    ),
    Attribute(
        "expression",
        _adjectives("calm happy sad angry surprised afraid", "expression"),
        noun="expression",
        article=True,
        mixed=True,
        usual=False,
        question="What does the face express?",
    ),
    Attribute(
        "freckles",
        _shown_or_not("freckles", "freckles", "clear skin"),
        usual=False,
        question="Are there freckles on the face?",
    ),
    Attribute(
        "moles",
        _shown_or_not("a mole", "a mole on the face", "no moles"),
        usual=False,
        question="Is there a mole on the face?",
    ),
    Attribute(
        "scars",
        _shown_or_not("a scar", "a scar on the face", "no scars"),
        usual=False,
        question="Is there a scar on the face?",
    ),
    Attribute(
        "ethnicity",
        tuple(
            Answer(word, word, f"{word} features")
            for word in (
                "African",
                "East Asian",
                "European",
                "Latin American",
                "Middle Eastern",
                "South Asian",
                "Southeast Asian",
            )
        ),
        noun="features",
        usual=False,
        question="Which of these would most people say the person looks like?",
    ),
)
"""What readers of real photographs can be asked, in the order in which it is said."""

_LISTED = re.compile(r"[,;\n]")


def chosen_attributes(text: str, known: Sequence[Attribute]) -> tuple[Attribute, ...]:
    """The attributes that an artist names, in the usual order.

    Args:
        text: their names, between commas or line ends; "usual" stands for the usual ones, and so does no name.
        known: what can be chosen of.

    Raises:
        DescriptionError: there is no attribute of a name.
    """
    names = [" ".join(name.casefold().split()) for name in _LISTED.split(text)]
    names = [name for name in names if name] or [USUAL]
    by_name = {attribute.name: attribute for attribute in known}
    for name in names:
        if name != USUAL and name not in by_name:
            raise DescriptionError(
                f"There is no attribute '{name[:60]}': choose of {', '.join(by_name)}, or write '{USUAL}' for the usual"
                " ones."
            )
    return tuple(attribute for attribute in known if attribute.name in names or (USUAL in names and attribute.usual))
