"""Has a language model put a description into other words, and refuses what says anything else than before.

A rewritten sentence is read with a closed vocabulary: the phrases of the grammar, other wordings of the same, and words
that say nothing of looks. One word beyond these, a fact more, less or other, and the sentence stays as it was. So it is
where a "no" or "without" could reach to what comes after it, as in "without a beard and glasses".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from .attributes import AGE, PART, Attribute
from .grammar import ANYBODY, Grammar

Reword = Callable[[str], str]
"""Puts a request to a language model; its answer."""

REQUEST = (
    "Write this description of a person in other words, in one sentence. Keep every fact, add none, name nobody, and"
    " write nothing but the sentence: {}"
)

SAYING_NOTHING = frozenset(
    "a an the this and with who has have having wears wearing is are that in whose their they person someone somebody"
    " plus also both about around between appears individual".split()
)
"""Words of a sentence that say nothing of looks by themselves."""

SAYING_NOTHING_TOGETHER = ("years old", "years of age", "a head of", "in addition")
"""Words that do so only beside each other: somebody old is something else than somebody some years old."""

NEGATIONS = frozenset(("no", "without"))
"""With what a wording begins that says that something is not there."""

ENDING_A_NEGATION = frozenset("with has have having wears wearing".split())
"""Words that begin anew what a person has, so that no negation before them reaches further."""

MOST_TOKENS = 160
"""Of a rewritten sentence."""

LONGEST = 600
"""Characters of a sentence; what is longer is no sentence about a face."""

_MEANING = {"she": ("gender", "woman"), "her": ("gender", "woman"), "he": ("gender", "man"), "his": ("gender", "man")}
_WORD = re.compile(r"[a-z0-9-]+|[^\sa-z0-9-]")
_HARMLESS = frozenset(",.;:'\"")

Facts = Mapping[str, tuple[str, ...]]


class Rewriter:
    """Rewrites descriptions.

    Args:
        attributes: what the descriptions are about.
        reword: see `Reword`.
    """

    def __init__(self, attributes: Sequence[Attribute], reword: Reword) -> None:
        self._grammar = Grammar(attributes)
        self._rephrase = reword
        self._wordings = sorted(_wordings(attributes, self._grammar), key=lambda one: -len(one[0]))
        self._parts = frozenset(one.name for one in attributes if one.place == PART)

    def rewrite(self, caption: str) -> str:
        """The description in other words, or as it was if the other words say something else."""
        said = " ".join(self._rephrase(REQUEST.format(caption)).strip().strip("\"'").split())
        facts = self.facts_in(said) if 0 < len(said) <= LONGEST else None
        return said.rstrip(".") if facts is not None and facts == self._grammar.parse(caption) else caption

    def facts_in(self, text: str) -> Facts | None:
        """What a sentence of any make says.

        Returns:
            None if there is a word in it that is not understood, if it contradicts itself, or if it names something
            that a negation before could reach.
        """
        words = _WORD.findall(text.casefold())
        facts: dict[str, tuple[str, ...]] = {}
        place, negated = 0, False
        while place < len(words):
            found = next((one for one in self._wordings if words[place : place + len(one[0])] == one[0]), None)
            meant = found[1] if found else _facts_of_one(words[place])
            if meant is None:
                return None
            if any(facts.get(name, answers) != answers for name, answers in meant.items()):
                return None
            if words[place] in NEGATIONS:
                negated = True
            elif words[place] in ENDING_A_NEGATION:
                negated = False
            elif negated and self._parts & meant.keys():
                return None
            facts |= meant
            place += len(found[0]) if found else 1
        return facts


def _facts_of_one(word: str) -> Facts | None:
    if word in SAYING_NOTHING or word in _HARMLESS:
        return {}
    if word in _MEANING:
        name, answer = _MEANING[word]
        return {name: (answer,)}
    return None


def _wordings(attributes: Sequence[Attribute], grammar: Grammar) -> list[tuple[list[str], Facts]]:
    """Every wording that is understood, as words, with what it means; longer ones are to be tried first."""
    found: dict[str, Facts] = {text: {} for text in SAYING_NOTHING_TOGETHER}
    for phrase in grammar.phrases:
        if phrase.text == ANYBODY:
            continue
        for text in _variants(phrase.text, phrase.facts, attributes):
            found.setdefault(text, phrase.facts)
    return [(_WORD.findall(text.casefold()), facts) for text, facts in found.items()]


def _variants(text: str, facts: Facts, attributes: Sequence[Attribute]) -> list[str]:
    """A phrase with one of its answers in other words, and without its article, or with "without" for "no"."""
    texts = [text]
    for attribute in attributes:
        for answer in attribute.answers:
            if answer.word in facts.get(attribute.name, ()) and attribute.place != AGE:
                texts += [text.replace(answer.phrase, other) for other in answer.others]
    texts += [re.sub(r"^an? ", "", one) for one in texts]
    texts += [re.sub(r"^no ", without, one) for one in texts for without in ("without ", "without a ")]
    texts += [one.removeprefix("aged ") for one in texts]
    return texts
