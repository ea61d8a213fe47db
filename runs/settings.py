"""Describes a setting once, in its dataclass field: what checks it, and every widget and option, is made of that.

A field of `setting(10, "Length of the prefix.", least=1)` has its default, its range and its help beside it; the help
is what an artist reads (a widget's tooltip, a row of a help page), so it is in plain sentences.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..prefix.errors import AnonymizationError

METADATA = "setting"

LARGEST_SEED = 0xFFFFFFFFFFFFFFFF


@dataclass(frozen=True)
class Described:
    """A setting, as its field describes it.

    Attributes:
        name: of the field.
        default: of its own type: int, float, bool or str.
        help: what it does, in plain sentences.
        least, most: the range of a number; None where it has no end.
        above: `least` itself is too little.
        offered: the range that widgets offer, where that is another.
        step: between two values that a widget offers.
        rounded: a widget takes no values between.
        choices: the values there are; empty where any will do.
        advanced: shown when an artist asks for more.
        automatic: the value that leaves the choice to the preset, which is the default then; None where none does.
    """

    name: str
    default: Any
    help: str
    least: float | None = None
    most: float | None = None
    above: bool = False
    offered: tuple[float | None, float | None] | None = None
    step: float | None = None
    rounded: bool = False
    choices: tuple[str, ...] = ()
    advanced: bool = False
    automatic: float | None = None

    @property
    def told(self) -> str:
        """The help, and what the value says that leaves the choice to the preset."""
        return self.help if self.automatic is None else f"{self.help} {self.automatic:g}: what the preset says."


def setting(default: Any, help: str, **about: Any) -> Any:
    """A dataclass field with its description; see `Described` for what may be said."""
    return dataclasses.field(default=default, metadata={METADATA: {"help": help, **about}})


def described(settings: type, name: str) -> Described:
    """The description of a field of a dataclass."""
    (field,) = (field for field in dataclasses.fields(settings) if field.name == name)
    return Described(name, field.default, **field.metadata[METADATA])


def all_described(settings: type) -> Sequence[Described]:
    """The descriptions of all fields that have one, in order."""
    names = [field.name for field in dataclasses.fields(settings) if METADATA in field.metadata]
    return [described(settings, name) for name in names]


def require_in_range(settings: Any, error: type[AnonymizationError]) -> None:
    """Raises the error, with a remedy, unless each setting of a dataclass's value is within its range."""
    for about in all_described(type(settings)):
        value = getattr(settings, about.name)
        if about.choices and value not in about.choices:
            raise error(f"There is no {about.name} '{value}': choose one of {', '.join(about.choices)}.")
        if isinstance(about.default, bool | str):
            continue
        lowest, highest = _end(about.least, -math.inf), _end(about.most, math.inf)
        if not (math.isfinite(value) and lowest <= value <= highest) or (about.above and value == lowest):
            raise error(f"The setting '{about.name}' is {value}: set it {_range(about)}.")


def add_option(
    group: argparse._ActionsContainer,
    settings: type,
    name: str,
    flag: str = "",
    default: Any = None,
    shown: str = "",
    besides: str = "",
) -> None:
    """Adds the command-line option of a setting; of a switch that is on there is one that takes it off, `--no-…`, too.

    Args:
        flag: the option's name, where it is not the setting's.
        default: what the option is where it is left out; its help tells the setting's own default in any case.
        shown: what its help calls the default, where that is not the setting's own.
        besides: what there is to say of it on a command line alone.
    """
    about = described(settings, name)
    flag = flag or f"--{name.replace('_', '-')}"
    sentences = [*about.help.rstrip(".").split(". "), *([besides] if besides else [])]
    words = "; ".join(map(_uncapitalized, sentences)).replace("%", "%%")
    kind = type(about.default)
    if kind is bool and about.default:
        group.add_argument(
            flag, action=argparse.BooleanOptionalAction, default=default, help=f"{words} (default: {flag})"
        )
        return
    if kind is bool:
        group.add_argument(flag, action="store_true", default=default, help=words)
        return
    if not shown:
        shown = repr(about.default) if kind is str and not about.choices else f"{about.default}"
        if about.automatic is not None:
            shown = "the preset's"
    told = {"help": f"{words} (default: {shown})", "default": default}
    if about.choices:
        group.add_argument(flag, choices=about.choices, **told)
    else:
        group.add_argument(flag, type=kind, metavar={int: "N", float: "X", str: "WORDS"}[kind], **told)


def _uncapitalized(sentence: str) -> str:
    return sentence[0].lower() + sentence[1:] if sentence[1:2].islower() else sentence


def _range(about: Described) -> str:
    if about.above:
        return f"above {about.least:g}, such as {about.default:g}"
    if about.most is not None:
        return f"between {about.least:g} and {about.most:g}"
    return f"to {about.least:g} or more" if about.least is not None else "to a number"


def _end(limit: float | None, otherwise: float) -> float:
    return otherwise if limit is None else limit
