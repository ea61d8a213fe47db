"""Reads the README, which is short and links every page, and the help pages, which list errors in one way."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
DOCS = sorted((ROOT / "docs").glob("*.md"))
HELP_PAGES = sorted((ROOT / "web" / "docs").glob("*.md"))


def test_the_readme_is_short():
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 150


def test_the_readme_links_every_page():
    linked = set(re.findall(r"\]\(docs/([\w-]+\.md)\)", README.read_text(encoding="utf-8")))
    assert [page.name for page in DOCS if page.name not in linked] == []


@pytest.mark.parametrize("page", HELP_PAGES, ids=lambda page: page.stem)
def test_errors_stand_under_one_heading(page):
    text = page.read_text(encoding="utf-8")
    assert "If it refuses" not in text
    assert "| It says |" not in text
