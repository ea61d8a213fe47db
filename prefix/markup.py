"""Writes text so that whatever reads it as HTML or Markdown shows it as it is.

Texts of files, prompts, names and workflows come from anybody. Whoever hands one to something that reads markup calls
this, once, at the very place where it is handed over; everywhere else a text stays as it was written.
"""

from __future__ import annotations

import re

_PLAIN = re.compile(r"[^A-Za-z0-9 \n\u0080-\U0010ffff]")
_LONE_SURROGATES = re.compile("[\ud800-\udfff]")
_UNKNOWN = "\ufffd"


def as_markup(text: str) -> str:
    """The text as markup that is shown as the text: in elements and quoted attributes of HTML, and in Markdown.

    Every ASCII character but letters, digits, spaces and line feeds becomes a numeric reference. More than `<`, `>`,
    `&` and quotes have to: ComfyUI's frontend also makes links of addresses and of `[[label|address]]` in what nodes
    report, and stumbles over `__LNK0__`. What no encoding can carry (lone surrogates) becomes U+FFFD.
    """
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    return _PLAIN.sub(_reference, _LONE_SURROGATES.sub(_UNKNOWN, lines))


def _reference(found: re.Match[str]) -> str:
    code = ord(found[0])
    # A tab is itself; other control characters have no reference that stands for them.
    return "\t" if code == 9 else f"&#{code};" if 32 <= code < 127 else _UNKNOWN
