"""Shows that the ways to write a name are many, differ, and still name the person."""

from __future__ import annotations

import unicodedata

from anonymize_faces.benchmarks.attacking.words import WAYS

NAME, OTHER = "Alma Orlick", "Bruno Tessen"


def scripts(text: str) -> set[str]:
    """The scripts that its letters are of."""
    return {unicodedata.name(letter).split()[0] for letter in text if letter.isalpha()}


def test_there_are_forty_ways_in_six_languages_and_scripts() -> None:
    assert len(WAYS) >= 40
    assert len([way for way in WAYS if way.kind == "language"]) >= 6
    found = set().union(*(scripts(way.prompt(NAME, OTHER)) for way in WAYS))
    assert {"LATIN", "CYRILLIC", "GREEK", "CJK", "HANGUL", "ARABIC", "DEVANAGARI"} <= found


def test_no_two_are_alike() -> None:
    assert len({way.name for way in WAYS}) == len({way.prompt(NAME, OTHER) for way in WAYS}) == len(WAYS)


def test_each_says_something_of_the_name_and_only_some_of_somebody_else() -> None:
    for way in WAYS:
        assert way.prompt(NAME, OTHER) != way.prompt("Cora Nakamura", OTHER), way.name
        changes = way.prompt(NAME, OTHER) != way.prompt(NAME, "Cora Nakamura")
        assert changes == (way.kind == "several people" and "stranger" not in way.name), way.name
    assert {way.name: way.prompt(NAME, OTHER) for way in WAYS}["Cyrillic letters"].endswith("Алма Орликк")
