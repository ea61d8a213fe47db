"""Tells what in a line of a list of people is unclear: marks of other formats, and what is no name or no looks."""

from __future__ import annotations

import re
import unicodedata
from string import ascii_lowercase

EXAMPLE = "Ada Example: a woman with brown hair and glasses"

COLON = re.compile("[:\uff1a\ufe55\ufe13\u2236\ua789]")
"""The colon of keyboards of any language, and what looks like it."""

_LIST_MARKS = (
    r"(?:[-*+\u2022\u2023\u2013\u2014\u00b7]|[A-Za-z]\))(?:\s|$)",
    r"\([A-Za-z]\)\s",
    r"\(?\d+[.)_-](?!\d)",
    r"\d+[\uff0e\uff09\u3001]",
    r"[Nn][or]\.?\s*\d",
)
_LIST_MARK = re.compile("|".join(_LIST_MARKS))
_QUOTED = re.compile(
    '(?:["\u201c\u201d\u201e\u00ab][^"\u201c\u201d\u00bb]*["\u201c\u201d\u00bb]'
    "|['\u2018\u2019][^'\u2018\u2019:\uff1a]*['\u2018\u2019])\\s*(?:[,;:\uff1a\t]|$)"
)
_SEPARATORS = (
    r"[,;|=()\\~]",
    r"[\uff0c\uff1b\u3001\u060c\u061b\uff08\uff09]",  # the same in other scripts
    r"[-=]*[>\u2190-\u21ff]",  # arrows
    r"-{2,}",
    r"[\u2013\u2014]\s",
    r"\s(?:[\u2013\u2014]|[^\w\s'\"\u2018\u2019\u201c\u201d&#@]+\s)",
)
_SEPARATOR = re.compile("|".join(_SEPARATORS))
_CLEAR_SEPARATOR = re.compile(r"[;|=]|,(?!\s)")
_MARKUP = {"{": "JSON", "[": "JSON", "<": "markup", "|": "a table in Markdown", "\\": "a path", "`": "code"}
_SIGNS_BEFORE_NAMES = "'\"\u2018\u2019\u201c\u201d\u201e\u00ab"
_FILES = "jpe?g png webp gif bmp tiff? txt csv tsv json pdf html? pt bin safetensors".split()
_ADDRESSES = (r"[/\\]", r"\.{1,2}/", r"www\.", r"\S+@\S+\.\w", rf".*\.(?:{'|'.join(_FILES)})$")
_ADDRESS = re.compile("|".join(_ADDRESSES), re.IGNORECASE)
_ARTICLE = "an?|the|some|ein|eine|une?|una|uma?|een"
_LOOKS_FIRST = re.compile(rf"(?:{_ARTICLE})\s|(?i:{_ARTICLE})\s+[a-z]")
_LOOKS_WITHIN = re.compile(r"[\s,.]an?\s+[a-z]")
_BEFORE_SOMEBODY = "|".join("young old tall elderly".split())
_SOMEBODIES = "|".join("woman women man men girls? boys? lady person people child kid someone somebody".split())
_AFTER_SOMEBODY = "|".join("with in who wearing of at on and".split())
_SOMEBODY = re.compile(
    rf"(?:(?:{_BEFORE_SOMEBODY})\s+)*(?:{_SOMEBODIES})(?:\s+(?:{_AFTER_SOMEBODY})\b|$)", re.IGNORECASE
)
_NO_LOOKS = re.compile(r"[\W\d_]*|n/?a|none|null|nil|unknown|undefined|todo|tbd", re.IGNORECASE)
_SYNTAX = re.compile(r"[{}<>\[\]]|embedding\s*:", re.IGNORECASE)
_ORDINAL = re.compile(r"(?:(\d+)|([a-z])\.|([ivx]+)\.)\s")
_ROMAN = {"i": 1, "v": 5, "x": 10}


def fault_of_line(content: str) -> str | None:
    """What a line looks like that is no `Name: description`, with what to do; None if it is one."""
    if content[:1] in _MARKUP:
        return f"looks like {_MARKUP[content[:1]]}, not like a person: write '{EXAMPLE}'."
    if _QUOTED.match(content) or COLON.split(content, maxsplit=1)[0].count('"') % 2:
        return f"is in quotation marks: leave them out, as in '{EXAMPLE}'."
    if _LIST_MARK.match(content):
        return f"begins with a mark of a list: leave it out, as in '{EXAMPLE}'."
    return None


def fault_of_separator(name: str, described: bool) -> str | None:
    """What in a name may be meant to part it from the looks.

    Args:
        name: what stands before the colon, or the whole line.
        described: whether there is a colon.
    """
    found = (_CLEAR_SEPARATOR if described else _SEPARATOR).search(name)
    if found is None:
        return None
    return (
        f"has '{found[0].strip()}' in the name: if it parts name and description, write a colon there, as in"
        f" '{EXAMPLE}'{'' if described else '; else put a colon and the looks behind the name'}."
    )


def fault_of_name(name: str, described: bool) -> str | None:
    """Why a name is nobody's; `described` says whether looks are told beside it."""
    if _ADDRESS.match(name):
        return f"looks like a path or an address, not like a person: write '{EXAMPLE}'."
    if "{" in name or "}" in name or not any(map(str.isalpha, name)):
        return f"has '{name}' for a name, which is no person's: write '{EXAMPLE}'."
    if unicodedata.category(name[0])[0] != "L" and not name[0].isdecimal() and name[0] not in _SIGNS_BEFORE_NAMES:
        return f"begins with '{name[0]}', which no name does: leave it out, as in '{EXAMPLE}'."
    if _LOOKS_FIRST.match(name) or _LOOKS_WITHIN.search(name) or (not described and _SOMEBODY.match(name)):
        return f"has looks where the name stands: write name, colon, looks, as in '{EXAMPLE}', the name with capitals."
    return None


def fault_of_looks(description: str, name: str) -> str | None:
    """Why a description tells no looks, or is read as something else than words."""
    if description[0] in "/\\":
        return f"looks like a path or an address, not like a person: write '{EXAMPLE}'."
    if _NO_LOOKS.fullmatch(description):
        return f"has no description of {name}: describe the looks, or leave out the colon."
    if found := _SYNTAX.search(description):
        return f"has '{found[0]}' in the description of {name}, which is more than words: describe the looks."
    return None


def numbers_of(content: str) -> set[int]:
    """What a line may be numbered with: `1 Ada`, `a. Ada`, `ii. Ada`."""
    found = _ORDINAL.match(content)
    if found is None:
        return set()
    if found[1]:
        return {int(found[1][:9])}
    letters = found[2] or found[3]
    alphabetic = {ascii_lowercase.index(letters) + 1} if len(letters) == 1 else set()
    if not set(letters) <= _ROMAN.keys():
        return alphabetic
    values = [_ROMAN[letter] for letter in letters]
    return {
        sum(-value if value < after else value for value, after in zip(values, [*values[1:], 0], strict=True))
    } | alphabetic
