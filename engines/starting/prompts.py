"""Defines the prompts that are read before a conditional prefix is learned."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FirstPrompts:
    """Prompts that its gate is fitted to, and what it begins at; no picture is drawn for them.

    Attributes:
        named: that name somebody; at least one.
        others: that do not; at least one.
        whom: whom each of `named` names, an index of `descriptions`.
        descriptions: of these people, each of whom is named; none if the vectors are to begin at random.
    """

    named: tuple[str, ...]
    others: tuple[str, ...]
    whom: tuple[int, ...] = ()
    descriptions: tuple[str, ...] = ()

    @property
    def all(self) -> tuple[str, ...]:
        """Those that name somebody, and the others."""
        return self.named + self.others
