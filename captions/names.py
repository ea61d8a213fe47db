"""Reads off a picture's path whom it shows: off the file's name, else off the folders above it.

The file's name counts first where it is a first and a last name; then the nearest folder that can be somebody's; then
the file's name whatever it is, unless a camera gave it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from ..prefix.errors import shown

_NUMBER = re.compile(r"[\s_.,#\u2013\u2014-]*(?:\d+|\(\d+\)|\[\d+\]|\{\d+\})$")
"""A number after a name, in brackets or not, and the parts of a date."""

_COPY = re.compile(r"[\s_\u2013\u2014-]+\(?(?:copy|kopie|copie|copia|cópia|kopia)\)?$", re.IGNORECASE)
"""What systems call a copy."""

_REPEATS = re.compile(r"^\d+_")
"""How trainers write before a folder's name how often its pictures are learned."""

_SYNTAX = re.compile("[:\uff1a\ufe55\ufe13\u2236\ua789#\uff03\ufe5f]")
_LETTERS = re.compile(r"[^\W\d_]+")
_BETWEEN_WORDS = re.compile(r"[\s_-]+")

_DEVICES = frozenset(
    "capture comfyui dji download dsc dscf dsci dscn fb frame g gh gopr gp gx image images img imgp mg mvimg p photo"
    " photos pic pict picture pictures pxl received scan screen screenshot signal snapshot unnamed untitled"
    " whatsapp".split()
)
"""How names begin that cameras and programs give to pictures whose person they do not know: IMG_1234, P1010001."""

_OF_DEVICES = frozenset("am at cover e edited hdr image img mp night on pm portrait shot video wa".split())
"""What such names may hold beside numbers: IMG-20240101-WA0001, "WhatsApp Image 2024-01-01 at 12.00"."""

_GENERIC = frozenset(
    "album albums all batch camera celebrities celebs close closeup color colour crop cropped crops data dataset"
    " datasets dcim download downloads eval face faces family folder frames friends front identities image images"
    " img imgs input left misc my new old original originals other others output people person persons photo"
    " photos pic pics picture pictures portrait portraits profile raw resized right screenshots selected set side"
    " sorted source target test testing train training unsorted up val valid validation view views".split()
)
"""Words for pictures and views of anybody: what consists of such alone is nobody's name."""

_WITHIN_NAMES = frozenset("al bin da das de del della den der di do dos du el ibn la le ten ter van von y zu".split())
"""Words of names that begin with a small letter."""

MOST_NAMES = 4
"""That a finding lists."""


@dataclass(frozen=True)
class Whose:
    """Whom a picture shows by its path.

    Attributes:
        name: empty: nobody, as far as can be told.
        folder: the path of the nearest folder that can be somebody's name; empty if there is none.
        by_folder: the name is that folder's.
        stem: what the file's own name says; empty if that can be nobody's.
    """

    name: str
    folder: str
    by_folder: bool
    stem: str


def name_of(path: str) -> str:
    """The name of the person whom a picture shows.

    Args:
        path: below the folder of all pictures, with "/" between: "Ada Example 2.jpg", "Ada Example/2.jpg".

    Returns:
        The name; empty if there is none, or a device's.
    """
    return whose(path).name


def whose(path: str) -> Whose:
    """See `name_of`; with where the name comes from."""
    file = PurePosixPath(path)
    stem = _words_of(_without_what_follows(file.stem))
    stem = "" if _is_devices(file.stem) or not _can_be_somebody(stem) else stem
    folders = [(_words_of(_REPEATS.sub("", one.name)), one.as_posix()) for one in file.parents if one.name]
    called, folder = next((one for one in folders if _can_be_somebody(one[0])), ("", ""))
    by_folder = bool(called) and not _is_first_and_last_name(stem)
    return Whose(called if by_folder else stem, folder, by_folder, stem)


def possible_names(path: str) -> Iterator[str]:
    """The names that a picture's path can stand for, for whom to look in a list of people: the likeliest come first.

    The file's own name comes first, whole and then without what follows names, as a listed name may end in a number or
    consist of words for pictures. Then comes `name_of`, and where that is a folder's, the folders further up.
    """
    file = PurePosixPath(path)
    yield from map(_words_of, _ever_shorter(file.stem))
    told = whose(path)
    if told.name and not told.by_folder and _is_first_and_last_name(told.stem):
        return
    for folder in file.parents:
        if folder.name:
            yield _words_of(folder.name)
            yield _words_of(_REPEATS.sub("", folder.name))


def mixed_folders(paths: Iterable[str], same: Callable[[str], str] = str.casefold) -> list[tuple[str, str]]:
    """Folders after which pictures are called whose files bear several names, and what there is to know of each.

    Args:
        same: what two spellings of one name have in common.
    """
    found: dict[str, list[Whose]] = {}
    for one in map(whose, paths):
        if one.folder:
            found.setdefault(one.folder, []).append(one)
    told = []
    for folder, pictures in found.items():
        called = next((one.name for one in pictures if one.by_folder), "")
        # A small word in somebody's folder ("beach.jpg") is hardly another person.
        names = {same(one.stem): one.stem for one in pictures if one.stem and not one.stem.islower()}
        names.pop(same(called), None)
        own = any(not one.by_folder and same(one.name) != same(called) for one in pictures)
        if called and (own or len(names) > 1):
            some = ", ".join([*list(names.values())[:MOST_NAMES], *["…"] * (len(names) > MOST_NAMES)])
            told.append(
                (
                    folder,
                    f"its files bear several names ({some}), and those without a first and a last name count as"
                    f" pictures of '{called}': give each person a folder",
                )
            )
    return told


def listable(name: str) -> str:
    """A name as a line of a list can hold it: without colons and number signs, of keyboards of any language."""
    return " ".join(_SYNTAX.sub(" ", name).split())


def _words_of(text: str) -> str:
    return listable(text.replace("_", " "))


def _without_what_follows(stem: str) -> str:
    """A stem without numbers and marks of copies at its end; of nothing but such, what is left at last."""
    *_, shortest = _ever_shorter(stem)
    return shortest


def _ever_shorter(stem: str) -> Iterator[str]:
    """A stem, then without the number or the mark of a copy at its end, and so on."""
    yield stem
    while stem := next((one for one in (_NUMBER.sub("", stem), _COPY.sub("", stem)) if one not in ("", stem)), ""):
        yield stem


def _is_devices(stem: str) -> bool:
    """Whether a device gave the whole name."""
    first, *others = _LETTERS.findall(stem.casefold()) or [""]
    return first in _DEVICES and _OF_DEVICES.issuperset(others)


def _can_be_somebody(text: str) -> bool:
    """Whether it has letters, can be written down, and is more than words for pictures and a number."""
    words = _LETTERS.findall(text.casefold())
    return bool(words) and shown(text) == text and not _GENERIC.issuperset(words)


def _is_first_and_last_name(text: str) -> bool:
    """Whether it is two words or more, of letters alone, that begin with capitals where their script has such."""
    words = [word for word in _BETWEEN_WORDS.split(text) if word]
    if len(words) < 2 or not all(map(_is_letters_alone, words)):
        return False
    return not any(word.islower() and word not in _WITHIN_NAMES for word in words) and not words[-1].islower()


def _is_letters_alone(text: str) -> bool:
    return all(unicodedata.category(mark)[0] in "LM" or mark in ".'\u2019" for mark in text)
