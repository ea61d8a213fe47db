"""Describes pictures: finds the face, crops it, reads its looks, and says of them what is certain enough.

The steps are those of synthetic face captions (docs/METHODS.md 7.1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..faces.recognizer import Finder, FoundFace
from ..prefix.errors import DescriptionError
from ..runs.seeds import derived_seed
from ..runs.settings import LARGEST_SEED, require_in_range, setting
from .attributes import PICTURE, USUAL, Attribute
from .crops import crop
from .grammar import FIXED, ORDERS, SENTENCE, STYLES, VARIED, Facts, Grammar
from .readers import LooksReader, read_checked

LARGEST, SKIP, ALL = "largest", "skip", "all"
SEVERAL = (LARGEST, SKIP, ALL)

Report = Callable[[int, int], None]
"""Called with how many pictures are done, and how many there are; may raise to stop."""


@dataclass(frozen=True)
class DescribingSettings:
    """How faces are described.

    Attributes:
        certainty: a reader's probability from which on an answer is said.
        attributes: names of what is said, see `attributes.chosen_attributes`.
        order: "fixed", or "varied": what follows "with" comes in an order that differs from picture to picture.
        style: see `grammar.STYLES`.
        several: what becomes of a picture with several faces: the largest is described, or none, or all.
        only_photographs: leave out what looks like a drawing, a painting, a render.
        seed: of the varied order.
    """

    certainty: float = setting(
        0.85,
        "How sure the reader must be of an answer: below, nothing is said of it.",
        least=0.5,
        most=0.99,
        step=0.01,
    )
    attributes: str = setting(
        USUAL,
        "What is said, with commas between: 'usual', or names such as hair, glasses, age. Expression, freckles, moles,"
        " scars and ethnicity are said only where you name them, as in 'usual, expression'.",
    )
    order: str = setting(
        FIXED,
        "'varied' puts what is said into another order for each picture, so that a model learns no order.",
        choices=ORDERS,
    )
    style: str = setting(
        SENTENCE,
        "'sentence': a woman with black hair and glasses. 'short': woman, black hair, glasses.",
        choices=STYLES,
    )
    several: str = setting(
        LARGEST,
        "What becomes of a picture with several faces: the largest is described, the picture is skipped, or all of them"
        " are described.",
        choices=SEVERAL,
    )
    only_photographs: bool = setting(
        False, "Skips pictures that look like a drawing, a painting, a render or a statue to the reader."
    )
    seed: int = setting(
        0,
        "The varied order follows from it.",
        least=0,
        offered=(0, LARGEST_SEED),
    )

    def __post_init__(self) -> None:
        require_in_range(self, DescriptionError)


DEFAULTS = DescribingSettings()


@dataclass(frozen=True)
class Answered:
    """What a reader answered of one attribute.

    Attributes:
        attribute: its name.
        answers: the words of the likeliest answer, or of two that are said together; none: it could not tell.
        probability: of these.
        said: whether the sentence says it.
        why: why not, in words.
    """

    attribute: str
    answers: tuple[str, ...]
    probability: float
    said: bool
    why: str = ""


@dataclass(frozen=True)
class Description:
    """What came of one face, or of a picture in which none was described.

    Attributes:
        picture: number of the picture.
        finding: what there is to know of the picture, in words; empty: one face, described.
        caption: empty if nothing was described.
        crop: the face with what the reader saw around it, uint8 [height, width, 3]; None if nothing was described.
        answers: of each attribute that is said, in order.
        probabilities: of each attribute's answers, as read.
    """

    picture: int
    finding: str = ""
    caption: str = ""
    crop: np.ndarray | None = None
    answers: tuple[Answered, ...] = ()
    probabilities: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def described(self) -> bool:
        """Whether there is a caption."""
        return bool(self.caption)


@dataclass(frozen=True)
class _Waiting:
    """A face that is to be read."""

    picture: int
    number: int
    finding: str
    crop: np.ndarray


def describe(
    pictures: Iterable[tuple[int, np.ndarray]],
    finder: Finder,
    reader: LooksReader,
    settings: DescribingSettings = DEFAULTS,
    report: Report = lambda done, total: None,
    total: int = 0,
) -> Iterator[Description]:
    """Describes the faces in pictures; a picture without one has an entry that says so.

    Entries come when they are read, a few pictures at a time: those of one picture together, and by `in_order` in the
    order of the pictures.

    Args:
        pictures: numbers, and uint8 [height, width, 3] of any sizes; a varied order follows from the number.
        finder: finds the faces.
        reader: reads their looks.
        report: called after each picture that was looked at.
        total: how many pictures there are, for `report`; 0 if that is not known.

    Raises:
        DescriptionError: the reader cannot run, or cannot tell photographs from other pictures and should.
        MeasurementError: the finder cannot run.
    """
    if settings.only_photographs and PICTURE not in reader.attributes:
        raise DescriptionError(
            f"{reader.name} cannot tell photographs from other pictures: switch only_photographs off, or choose another"
            " reader."
        )
    writer = CaptionWriter(sayable(reader), settings)
    waiting: list[_Waiting] = []
    for done, (number, picture) in enumerate(pictures, start=1):
        faces, finding = _chosen(finder.find(picture[None])[0], settings.several)
        if not faces:
            yield Description(number, finding)
        for place, face in enumerate(faces):
            note = f"face {place + 1} of {len(faces)}" if len(faces) > 1 else finding
            waiting.append(_Waiting(number, place, note, crop(picture, face.box, reader.margin)))
        if len(waiting) >= reader.batch:
            yield from _read(waiting, reader, writer, settings)
            waiting = []
        report(done, total)
    yield from _read(waiting, reader, writer, settings)


def in_order(descriptions: Iterable[Description]) -> list[Description]:
    """Descriptions in the order of their pictures, the largest face of each first."""
    return sorted(descriptions, key=lambda one: one.picture)


def sayable(reader: LooksReader) -> tuple[Attribute, ...]:
    """Of what a reader reads, what is ever said."""
    return tuple(one for one in reader.attributes if one != PICTURE)


def _chosen(faces: Sequence[FoundFace], several: str) -> tuple[Sequence[FoundFace], str]:
    """The faces to describe, the largest first, and what there is to say of the picture."""
    if not faces:
        return (), "no face was found"
    if len(faces) == 1 or several == ALL:
        return faces, ""
    if several == SKIP:
        return (), f"{len(faces)} faces were found: skipped"
    return faces[:1], f"{len(faces)} faces were found: the largest is described"


def _read(
    waiting: Sequence[_Waiting], reader: LooksReader, writer: CaptionWriter, settings: DescribingSettings
) -> list[Description]:
    if not waiting:
        return []
    read = read_checked(reader, [one.crop for one in waiting])
    told = []
    for row, one in enumerate(waiting):
        mine = {name: probabilities[row] for name, probabilities in read.items()}
        kind = mine.pop(PICTURE.name, None)
        if settings.only_photographs and kind is not None and (kind.max() <= 0 or kind.argmax() != 0):
            looks = f"looks like a {PICTURE.words[int(kind.argmax())]}" if kind.max() > 0 else "may be no photograph"
            told.append(Description(one.picture, f"{looks}: skipped"))
            continue
        answers = writer.answers(mine)
        caption = writer.say(answers, (one.picture, one.number))
        told.append(Description(one.picture, one.finding, caption, one.crop, answers, mine))
    return told


class CaptionWriter:
    """Decides what is said, and says it.

    Args:
        attributes: in the order in which they are said.
    """

    def __init__(self, attributes: Sequence[Attribute], settings: DescribingSettings) -> None:
        self.attributes = tuple(attributes)
        self.grammar = Grammar(self.attributes)
        self._settings = settings

    def answers(self, probabilities: Mapping[str, np.ndarray]) -> tuple[Answered, ...]:
        """What is said of one face, and what is left out.

        Args:
            probabilities: [answers] by attribute.
        """
        return self.consistent(
            [decided(one, probabilities[one.name], self._settings.certainty) for one in self.attributes]
        )

    def consistent(self, answers: Sequence[Answered]) -> tuple[Answered, ...]:
        """The same with nothing said twice, against something else, or without words."""
        facts = facts_of(answers)
        kept = []
        for attribute, one in zip(self.attributes, answers, strict=True):
            beside = [(name, word) for name, word in attribute.silent_with if word in facts.get(name, ())]
            if one.said and beside:
                kept.append(_unsaid(one, f"not said beside {beside[0][0]}: {beside[0][1]}"))
            elif one.said and not self.grammar.has_words(one.attribute, one.answers):
                kept.append(_unsaid(one, "nothing to say"))
            else:
                kept.append(one)
        return tuple(kept)

    def say(self, answers: Sequence[Answered], place: tuple[int, int] = (0, 0)) -> str:
        """The sentence.

        Args:
            place: numbers that a varied order follows from.
        """
        rng = None
        if self._settings.order == VARIED:
            purpose = f"order of what is said, face {place[1]}"
            rng = np.random.default_rng(derived_seed(self._settings.seed, purpose, place[0]))
        return self.grammar.say(facts_of(answers), self._settings.style, rng)


def decided(attribute: Attribute, probabilities: np.ndarray, certainty: float) -> Answered:
    """The answer that is said, or the likeliest one, unsaid.

    Neighbouring ranges of years may be said together where neither alone is certain, and so may two expressions.

    Args:
        probabilities: [answers].
    """
    if probabilities.max() <= 0:
        return Answered(attribute.name, (), 0.0, False, "cannot tell")
    best = Answered(attribute.name, (attribute.words[int(probabilities.argmax())],), float(probabilities.max()), False)
    spans = sorted(attribute.spans(), key=lambda span: (len(span), -probabilities[list(span)].sum()))
    for length in (1, 2):
        some = [span for span in spans if len(span) == length]
        sums = [float(probabilities[list(span)].sum()) for span in some]
        if sums and sums[0] >= certainty and (len(sums) == 1 or sums[0] > sums[1]):
            words = tuple(attribute.words[number] for number in some[0])
            return Answered(attribute.name, words, min(sums[0], 1.0), True)
    return _unsaid(best, "not certain enough")


def facts_of(answers: Iterable[Answered]) -> Facts:
    """What is said."""
    return {one.attribute: one.answers for one in answers if one.said}


def _unsaid(one: Answered, why: str) -> Answered:
    return Answered(one.attribute, one.answers, one.probability, False, why)
