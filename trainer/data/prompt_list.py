"""Reads a list of prompts, one a line; what is a file of another format is refused by the number of the line."""

from __future__ import annotations

import json
import re

from ...prefix.errors import ListError
from .list_text import entries, normalized, sameness

MOST_PROMPT = 5000
"""Characters of a prompt, at most."""

_HEADING = re.compile(r"(?:prompts?|captions?)(?:[,;]\S.*)?$")
_QUOTED = re.compile(r'"[^"]*"\s*[,;]?$|"[^"]*"\s*[,;]\s*"')


def prompts_of(text: str) -> tuple[str, ...]:
    """The prompts, each once, with one kind of space; blank lines and lines that begin with `#` are skipped.

    Raises:
        ListError: a line is of JSON or of a table, is in quotation marks, is a heading, is longer than any prompt, or
            holds a control character.
    """
    text = normalized(text)
    _require_no_json(text)
    prompts: dict[str, None] = {}
    for number, content in entries(text):
        if not prompts and _HEADING.match(sameness(content)):
            raise ListError(f"Line {number} is a heading: let it begin with #, and write one prompt a line.")
        prompts[_prompt(content, number)] = None
    return tuple(prompts)


def _prompt(content: str, number: int) -> str:
    if "\t" in content:
        raise ListError(f"Line {number} has columns: write one prompt a line and nothing else.")
    if _QUOTED.match(content):
        raise ListError(f"Line {number} is in quotation marks: leave them out, and write one prompt a line.")
    if len(content) > MOST_PROMPT:
        raise ListError(
            f"Line {number} has {len(content)} characters: shorten it to {MOST_PROMPT}, or see whether line ends are"
            " missing."
        )
    return content


def _require_no_json(text: str) -> None:
    """Raises for a list or a table in JSON, as a whole or a line each; prompts may begin with brackets too."""
    for part in (text, text.strip().partition("\n")[0]):
        try:
            found = json.loads(part) if part.strip()[:1] in ("[", "{") else None
        except (ValueError, RecursionError):
            continue
        if isinstance(found, list | dict):
            raise ListError("These prompts are in JSON: write them as text, one a line.")
