"""Reads looks by asking a language model that sees pictures: multiple choice, never an open question.

All attributes are asked at once, one line each, and answered by greedy decoding. What is no answer of the list, word
for word, counts as none. Everything is asked twice, the second time with the answers in the opposite order, since such
models favour places in a list (Zheng et al., arXiv 2309.03882): where the two differ, nothing is said. Neighbouring
ranges of years alone count half each, so that both are said as one range.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from .attributes import Attribute
from .readers import Probabilities

Ask = Callable[[str, "np.ndarray | None", int], str]
"""Puts a question about a picture, uint8 [height, width, 3], or about none, to a language model.

Takes the question, the picture and how many tokens the answer may have at most.
"""

CANNOT_TELL = "cannot tell"
MARGIN = 0.6
TOKENS_A_LINE = 24

_LINE = re.compile(r"^\s*(?:[-*]\s+)?(\d+)\s*[.):]\s*(.+?)\s*[.]?\s*$")
_THOUGHT = re.compile(r"<think>.*?</think>", re.DOTALL)


class MultipleChoiceReader:
    """A `LooksReader` that asks a language model.

    Args:
        ask: see `Ask`.
        name: which model.
    """

    margin: float | None = MARGIN
    batch = 1

    def __init__(self, ask: Ask, attributes: Sequence[Attribute], name: str) -> None:
        self.name = name
        self.attributes = tuple(attributes)
        self._ask = ask

    def read(self, pictures: Sequence[np.ndarray]) -> Probabilities:
        """See `LooksReader`: 1 for what was answered both times."""
        read = {one.name: np.zeros((len(pictures), len(one.answers))) for one in self.attributes}
        for row, picture in enumerate(pictures):
            first, second = (self._answers(picture, turned) for turned in (False, True))
            for one in self.attributes:
                if one.name in first and one.name in second and _agree(one, first[one.name], second[one.name]):
                    read[one.name][row, first[one.name]] += 0.5
                    read[one.name][row, second[one.name]] += 0.5
        return read

    def _answers(self, picture: np.ndarray, turned: bool) -> Mapping[str, int]:
        said = self._ask(question(self.attributes, turned), picture, TOKENS_A_LINE * (1 + len(self.attributes)))
        return answers_in(said, self.attributes)


def _agree(attribute: Attribute, first: int, second: int) -> bool:
    """Whether two answers are one, or neighbouring ranges of years."""
    return first == second or (bool(attribute.bounds) and abs(first - second) == 1)


def question(attributes: Sequence[Attribute], turned: bool = False) -> str:
    """All attributes as one question.

    Args:
        turned: the answers of each in the opposite order.
    """
    lines = []
    for number, attribute in enumerate(attributes, start=1):
        words = [*(reversed(attribute.words) if turned else attribute.words), CANNOT_TELL]
        lines.append(f"{number}. {attribute.question} {' / '.join(words)}")
    return (
        "Look at the face in the picture. Answer each question with exactly one of the answers given after it, and"
        f" with '{CANNOT_TELL}' where you are not sure. Write one line for each question: its number, a full stop, the"
        " answer. Write nothing else.\n" + "\n".join(lines)
    )


def answers_in(said: str, attributes: Sequence[Attribute]) -> Mapping[str, int]:
    """The numbers of the answers that were given, by attribute; what was answered twice, or otherwise, is left out."""
    given: dict[int, set[str]] = {}
    for line in _THOUGHT.sub("", said).splitlines():
        if found := _LINE.match(line):
            given.setdefault(int(found[1]), set()).add(found[2].casefold())
    answers = {}
    for number, attribute in enumerate(attributes, start=1):
        words = [word.casefold() for word in attribute.words]
        (*answer,) = given.get(number, ())
        if len(answer) == 1 and answer[0] in words:
            answers[attribute.name] = words.index(answer[0])
    return answers
