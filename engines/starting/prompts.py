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
    """

    named: tuple[str, ...]
    others: tuple[str, ...]
    described: tuple[str, ...] = ()
    whom: tuple[int, ...] = ()

    @property
    def all(self) -> tuple[str, ...]:
        """Those that name somebody, and the others."""
        return self.named + self.others
