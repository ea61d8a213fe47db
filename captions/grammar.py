"""Says attributes in a sentence, and reads them back: a grammar whose every sentence has one meaning.

Each phrase that can occur is made once and listed with what it means. Saying looks phrases up by what they mean,
reading looks them up by how they begin, the longest first, so that the one is the exact inverse of the other
(docs/METHODS.md 7.3).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..prefix.errors import DescriptionError
from .attributes import AGE, PART, SUBJECT, Attribute

SENTENCE, SHORT = "sentence", "short"
STYLES = (SENTENCE, SHORT)
FIXED, VARIED = "fixed", "varied"
ORDERS = (FIXED, VARIED)

ANYBODY = "a person"
"""Somebody of whom nothing is said."""

_ARTICLE = re.compile(r"^an? ")

Facts = Mapping[str, tuple[str, ...]]
"""What is said, by attribute: the words of one answer, or of two that are said together."""


@dataclass(frozen=True)
class Phrase:
    """Words of a sentence, and what they mean."""

    text: str
    facts: Facts


class Grammar:
    """The sentences about some attributes.

    Args:
        attributes: in the order in which they are said; their phrases must all differ.
    """

    def __init__(self, attributes: Sequence[Attribute]) -> None:
        self._subjects = [Phrase(ANYBODY, {}), *_phrases_of([one for one in attributes if one.place == SUBJECT])]
        self._ages = list(_phrases_of([one for one in attributes if one.place == AGE]))
        self._groups = [list(_phrases_of(group)) for group in _groups([a for a in attributes if a.place == PART])]
        self._parts = [phrase for group in self._groups for phrase in group]
        texts = [phrase.text for phrase in (*self._subjects, *self._ages, *self._parts)]
        if len(set(texts)) < len(texts):
            twice = next(text for text in texts if texts.count(text) > 1)
            raise ValueError(f"'{twice}' would mean two things.")

    @property
    def phrases(self) -> tuple[Phrase, ...]:
        """Every phrase that can occur, subjects first."""
        return (*self._subjects, *self._ages, *self._parts)

    def has_words(self, name: str, answers: tuple[str, ...]) -> bool:
        """Whether anything is said of an answer; that there is no fringe, nobody says."""
        return any(phrase.facts == {name: answers} for phrase in self.phrases)

    def say(self, facts: Facts, style: str = SENTENCE, rng: np.random.Generator | None = None) -> str:
        """A sentence that means these facts.

        Args:
            facts: by attribute.
            style: "sentence": "a woman aged 20 to 29 with black hair and glasses"; "short": "woman, aged 20 to 29,
                black hair, glasses".
            rng: puts what follows "with" into another order each time; None keeps the usual one.

        Raises:
            DescriptionError: there are no words for the facts; see `has_words`.
        """
        subject = _meaning(self._subjects, facts) or self._subjects[0]
        age = _meaning(self._ages, facts)
        parts = [found for group in self._groups if (found := _meaning(group, facts))]
        said = {name for phrase in (subject, age, *parts) if phrase for name in phrase.facts}
        if unsaid := [name for name in facts if name not in said]:
            raise DescriptionError(f"There are no words for {', '.join(unsaid)}.")
        if rng is not None:
            parts = [parts[number] for number in rng.permutation(len(parts))]
        return _joined(subject, age, parts, style)

    def parse(self, text: str) -> dict[str, tuple[str, ...]]:
        """The facts that a sentence of either style means.

        Raises:
            DescriptionError: it is no sentence of this grammar.
        """
        for style in STYLES:
            read = self._read(text, style)
            if read is not None and _joined(*read, style) == text:
                subject, age, parts = read
                facts: dict[str, tuple[str, ...]] = {}
                for phrase in (subject, age, *parts):
                    if phrase is not None:
                        facts |= phrase.facts
                return facts
        raise DescriptionError(f"This is no description of ours: '{text[:200]}'.")

    def _read(self, text: str, style: str) -> tuple[Phrase, Phrase | None, list[Phrase]] | None:
        short = style == SHORT
        subject, rest = _leading(self._subjects, text, short)
        if subject is None:
            return None
        found, after = _leading(self._ages, rest.removeprefix(", " if short else " "), short)
        age, rest = (found, after) if found else (None, rest)
        rest = rest.removeprefix(", " if short else " with ")
        parts: list[Phrase] = []
        while rest:
            part, rest = _leading(self._parts, rest, short)
            if part is None or any(name in other.facts for other in parts for name in part.facts):
                return None
            parts.append(part)
            rest = rest.removeprefix(", " if rest.startswith(", ") else " and ")
        return subject, age, parts


def _groups(attributes: Sequence[Attribute]) -> list[list[Attribute]]:
    """Attributes that share a phrase, in the order of the first of each."""
    groups: dict[str, list[Attribute]] = {}
    for attribute in attributes:
        groups.setdefault(attribute.noun or f"/{attribute.name}", []).append(attribute)
    return list(groups.values())


def _phrases_of(group: Sequence[Attribute]) -> Iterator[Phrase]:
    """Every phrase about attributes that share one; those that say nothing are left out."""
    choices = [[(), *(span for span in attribute.spans() if _can_be_said(attribute, span))] for attribute in group]
    for spans in itertools.product(*choices):
        chosen = [(attribute, span) for attribute, span in zip(group, spans, strict=True) if span]
        if not chosen or (len(chosen) > 1 and any(attribute.answers[s[0]].alone for attribute, s in chosen)):
            continue
        facts = {attribute.name: tuple(attribute.words[n] for n in span) for attribute, span in chosen}
        yield Phrase(_text_of(chosen), facts)


def _can_be_said(attribute: Attribute, span: tuple[int, ...]) -> bool:
    answers = [attribute.answers[number] for number in span]
    if attribute.bounds:
        return True
    return all(answer.phrase for answer in answers) and (len(span) == 1 or not any(a.alone for a in answers))


def _text_of(chosen: Sequence[tuple[Attribute, tuple[int, ...]]]) -> str:
    first, span = chosen[0]
    if first.bounds:
        return f"aged {years(first, span)}"
    words = [" and ".join(attribute.answers[n].phrase for n in span) for attribute, span in chosen]
    if not first.noun or first.answers[span[0]].alone:
        return words[0]
    phrase = f"{' '.join(words)} {first.noun}"
    return with_article(phrase) if first.article else phrase


def years(attribute: Attribute, span: Sequence[int]) -> str:
    """A range of years, as "20 to 44" or "45 or more"."""
    first, last = attribute.bounds[span[0]][0], attribute.bounds[span[-1]][1]
    return f"{first} or more" if last is None else f"{first} to {last}"


def with_article(phrase: str) -> str:
    """The phrase with "a" or "an"."""
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def _meaning(phrases: Sequence[Phrase], facts: Facts) -> Phrase | None:
    """The phrase that says as much of the facts as there are words for, and nothing else."""
    true = [p for p in phrases if all(facts.get(name) == answers for name, answers in p.facts.items())]
    return max(true, key=lambda phrase: len(phrase.facts), default=None)


def _leading(phrases: Sequence[Phrase], text: str, short: bool) -> tuple[Phrase | None, str]:
    """The longest phrase that a text begins with, as a whole word, and what follows it."""
    found, length = None, 0
    for phrase in phrases:
        words = _ARTICLE.sub("", phrase.text) if short else phrase.text
        if len(words) > length and text.startswith(words) and text[len(words) : len(words) + 1] in ("", " ", ","):
            found, length = phrase, len(words)
    return found, text[length:]


def _joined(subject: Phrase, age: Phrase | None, parts: Sequence[Phrase], style: str) -> str:
    texts = [part.text for part in parts]
    if style == SHORT:
        all_texts = [subject.text, *([age.text] if age else []), *texts]
        return ", ".join(_ARTICLE.sub("", text) for text in all_texts)
    text = f"{subject.text} {age.text}" if age else subject.text
    if not texts:
        return text
    listed = f"{', '.join(texts[:-1])} and {texts[-1]}" if len(texts) > 1 else texts[0]
    return f"{text} with {listed}"
