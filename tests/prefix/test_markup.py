"""Texts as markup: whatever reads it shows the text, and nothing in it means anything."""

from __future__ import annotations

import re
from html import unescape

from hypothesis import given
from hypothesis import strategies as st

from anonymize_faces.prefix import as_markup

HARMLESS = re.compile(r"(?:[A-Za-z0-9 \n\t]|&#\d+;|[^\x00-\x7f])*")
"""Nothing here begins a tag, an entity of another kind, a link or anything of Markdown."""


@given(st.text(st.characters(blacklist_categories=("Cs", "Cc"))))
def test_a_text_is_read_back_as_it_was(text):
    assert unescape(as_markup(text)) == text


@given(st.text(st.characters()))
def test_nothing_in_it_means_anything_and_any_encoding_carries_it(text):
    assert HARMLESS.fullmatch(as_markup(text))
    as_markup(text).encode("utf-8")


def test_what_people_write():
    assert as_markup("Tom & Ann <3") == "Tom &#38; Ann &#60;3"
    assert as_markup("a\r\nb\x00\ud800") == "a\nb\ufffd\ufffd"
