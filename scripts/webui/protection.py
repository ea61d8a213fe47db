"""Holds what protects prompts while pictures are drawn: the guard, and its scopes.

A *scope* is open while the host works on one request, and holds what that request asked for. What runs inside of it,
such as a second pass that an extension starts, is in its own scope within: it may ask for a prefix of its own, and is
never less protected than the one around it, unless the user's own plot asks for that. Where an operator enforces a
prefix, scopes count for nothing.

There is one guard for the process and not one for each thread: whatever encodes a prompt meanwhile is protected.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from torch import Tensor

from ...prefix import (
    AnonymizationError,
    Prefix,
    PrefixMismatchError,
    require_family,
    require_fit,
    require_strength,
    seal,
)
from ...prefix.enforced_setting import Enforcement
from .encoders import encoders_of


@dataclass(frozen=True)
class Protection:
    """A prefix and how strongly it protects.

    Attributes:
        name: its file, as the user or the operator named it.
        strength: 0 (plain) to 1 (protected).

    Raises:
        AnonymizationError: the strength is out of range.
    """

    name: str
    prefix: Prefix
    strength: float = 1.0

    def __post_init__(self) -> None:
        require_strength(self.strength)

    @cached_property
    def digest(self) -> str:
        """Of the vectors."""
        return seal(self.prefix.parameters, {})

    def require_model(self, model: Any) -> None:
        """Raises `PrefixMismatchError` unless all that reads prompts in the host's `sd_model` can carry the prefix."""
        encoders = encoders_of(model)
        require_family(self.prefix.record, encoders)
        require_fit(self.prefix.vectors, {key: encoder.width for key, encoder in encoders.items()})
        for encoder in encoders.values():
            encoder.require_room(self.prefix.vectors)


@dataclass(frozen=True)
class RequestedProtection:
    """What a request asks for.

    Attributes:
        protection: None for none.
        lowers: whether to be less protected than what is around is meant, and not only unsaid.
    """

    protection: Protection | None = None
    lowers: bool = False


@dataclass
class Scope:
    """An open request.

    Attributes:
        protection: of what is encoded in it.
    """

    protection: Protection | None


MOST_NOTED, FEWEST_NOTED = 16, 8
"""Conditionings that are remembered at most, and how many stay, those used last, where they become more. A request has
four: two prompts, and those of a second pass."""

LEFT_OUT, BESIDE = frozenset({"t5xxl"}), frozenset({"l", "g"})
"""Text encoders that an option of the host leaves out (SD 3's T5), and those that it then reads."""


@dataclass
class PromptGuard:
    """What protects prompts at this moment.

    Attributes:
        enforcement: the operator's setting; None if there is none.
    """

    enforcement: Enforcement | None = None
    _scopes: list[Scope] = field(default_factory=list)
    _noted: dict[int, tuple[Any, str, float]] = field(default_factory=dict)
    _read: set[str] = field(default_factory=set)
    _forgotten: int = 0

    @cached_property
    def _enforced(self) -> Protection | None:
        setting = self.enforcement
        if setting is None:
            return None
        if setting.fault is not None or setting.prefix is None:
            raise AnonymizationError(setting.fault)
        return Protection(setting.name.strip(), setting.prefix)

    def current(self) -> Protection | None:
        """The protection in force.

        Raises:
            AnonymizationError: the operator enforces one that cannot be had.
        """
        if self._enforced is not None:
            return self._enforced
        return self._scopes[-1].protection if self._scopes else None

    def prefixing(self) -> Protection | None:
        """The protection in force if prompts get its prefix, which they do not at strength 0."""
        protection = self.current()
        return protection if protection is not None and protection.strength > 0.0 else None

    def require_allowed(self, embeddings: Sequence[Any]) -> None:
        """Raises `AnonymizationError` if the operator does not allow one of a prompt's embeddings.

        Args:
            embeddings: the host's, with their vectors `[n, d]`, or those of each text encoder by name.
        """
        for embedding in embeddings if self.enforcement is not None else ():
            vectors = getattr(embedding, "vec", None)
            rows = [*vectors.values()] if isinstance(vectors, Mapping) else [vectors]
            allowed = self.enforcement.embeddings
            if allowed.all or all(isinstance(row, Tensor) and allowed.allow(row) for row in rows):
                continue
            name = str(getattr(embedding, "name", "embedding"))[:60]
            raise AnonymizationError(
                f"This prompt uses the embedding (textual inversion) '{name}' that this server does not draw, since one"
                " may draw a person whatever protects the words: leave it out, or ask the server's operator to list it."
            )

    @contextmanager
    def scope(self, requested: RequestedProtection) -> Iterator[Protection | None]:
        """Opens a scope, and closes it whatever happens inside.

        Raises:
            AnonymizationError: as `current`.
        """
        around, wanted = self.current(), requested.protection
        is_less = around is not None and (wanted is None or wanted.strength < around.strength)
        scope = Scope(around if is_less and not requested.lowers else wanted)
        self._scopes.append(scope)
        try:
            yield self.current()
        finally:
            self._scopes = [other for other in self._scopes if other is not scope]

    def witness(self, key: str) -> None:
        """Notes that the text encoder of that key read a prompt with the prefix."""
        self._read.add(key)

    def made(self, make: Callable[[], Any], encoders: Callable[[], Collection[str]]) -> Any:
        """The conditioning that the host makes of prompts, or has made before, noted as protected.

        Args:
            encoders: gives the keys of those that the checkpoint has; asked where a prefix is in force.

        Raises:
            PrefixMismatchError: the prefix is in force, and not all of them read a prompt with it, or did so when what
                the host kept was made.
        """
        protection = self.prefixing()
        if protection is None:
            return make()
        around, self._read = self._read, set()
        try:
            made = make()
            unread = frozenset(encoders()) - self._read
            if self._read and (not unread or (unread == LEFT_OUT and self._read >= BESIDE)):
                self._noted[id(made)] = made, protection.digest, protection.strength
        finally:
            self._read = around
        self.require_noted([made])
        self._noted[id(made)] = self._noted.pop(id(made))  # The last one used.
        if len(self._noted) > MOST_NOTED:
            self._noted = dict([*self._noted.items()][-FEWEST_NOTED:])
            self._forgotten += 1
        return made

    def kept_under(self, protection: Protection) -> tuple[Any, ...]:
        """What a host is to keep a conditioning under, beside what it keeps it under by itself.

        Another one once some were forgotten: what is kept of those is made anew.
        """
        layers = tuple(protection.prefix.record.layers.items())
        return protection.digest, protection.strength, layers, self._forgotten

    def require_noted(self, conditionings: Sequence[Any]) -> None:
        """Raises `PrefixMismatchError` if a picture is to be drawn from anything that was not read with the prefix.

        Args:
            conditionings: the very objects that it is drawn from; None for none.
        """
        protection = self.prefixing()
        if protection is None:
            return
        drawn_from = [one for one in conditionings if one is not None]
        wanted = protection.digest, protection.strength
        noted = [self._noted.get(id(one)) for one in drawn_from]
        known = [
            note is not None and note[0] is one and note[1:] == wanted
            for note, one in zip(noted, drawn_from, strict=True)
        ]
        if not known or not all(known):
            raise PrefixMismatchError(
                "The prompts did not go through the text encoders that Anonymize Faces protects, so the picture would"
                " not be protected: switch off the extension that encodes prompts in its own way."
            )
