"""Defines the prompts that are read before a conditional prefix is learned: what the trainer hands to engines."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FirstPrompts:
    """Prompts that its gate is fitted to, and what it begins at; no picture is drawn for them.

    Attributes:
        named: that name somebody; at least one.
        others: that do not; at least one.
        described: the description of whoever each of `named` names, empty where several may be meant; nothing at all
            if the vectors are not to begin at descriptions.
        whom: whom each of `named` names, as a number; as many as `described`.
        twins: what says the same as each of `named` with a description in place of the name; empty where it is not
            asked, and nothing at all if words of names are not to be found.
        anybody: words for somebody of whom nothing is known; the last stands for each word of a name at first.
    """

    named: tuple[str, ...]
    others: tuple[str, ...]
    described: tuple[str, ...] = ()
    whom: tuple[int, ...] = ()
    twins: tuple[str, ...] = ()
    anybody: str = ""

    @property
    def described_alike(self) -> bool:
        """Whether all that are described are in the same words, so that there are no looks to be told by names."""
        return len({words for words in self.described if words}) == 1

    @property
    def all(self) -> tuple[str, ...]:
        """All that are read: those that name somebody, the others, and twins that are none of these."""
        return tuple(dict.fromkeys((*self.named, *self.others, *filter(None, self.twins))))
