"""Nothing in the project cites a page, a section or a file that is not in it."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from anonymize_faces.tools.layout import ROOT

THIS = "tests/test_pages.py"
MADE = ("build", "__pycache__")
READ = (".py", ".js", ".md", ".toml", ".yml", ".yaml", ".mjs")

PAGE = re.compile(r"(?<![\w/.-])(?:\.\./)*((?:[\w-]+/)*[\w-]+\.md)\b")
"""A page by name, wherever it is said: `docs/METHODS.md`, `README.md`."""

METHOD = re.compile(r"(?<!\w)(docs/)?METHODS(\.md)? (\d+(?:\.\d+)?)")
"""A section of the methods, as docstrings cite it: `docs/METHODS.md 1.3`."""

HOST_FACT = re.compile(r"Host facts (\d+)")

LINK = re.compile(r"\]\((?!https?:|mailto:|data:)([^)#\s]*)(?:#([^)\s]+))?\)")
"""A link of Markdown, and the heading it leads to."""

PATH = re.compile(r"`((?:[\w-]+/)+(?:[\w-]+\.(?:py|js|json|toml|yml|md|mjs|txt))?)(?:: [\w.]+)?`")
"""A file or a folder of ours, as pages say it: `prefix/value.py`, `nodes/server/`."""

WIDEST_CODE = 44
"""Characters of a line that cannot be broken and needs no scrolling sideways."""

NOT_OURS = ("models/", "user/", "custom_nodes/", "build/", "comfy/")
"""Beginnings of paths in a host, or of what is made."""


@cache
def texts() -> dict[str, str]:
    """What stands in the project's files, with blanks in place of line breaks, by path."""
    folders = [path for path in ROOT.iterdir() if path.is_dir() and path.name not in MADE]
    folders = [path for path in folders if not path.name.startswith(".") or path.name in (".ci", ".github")]
    files = [*ROOT.glob("*.*"), *(path for folder in folders for path in folder.rglob("*"))]
    found = [path for path in files if path.suffix in READ and path.is_file() and "node_modules" not in path.parts]
    return {path.relative_to(ROOT).as_posix(): _on_one_line(path.read_text(encoding="utf-8")) for path in found}


def _on_one_line(text: str) -> str:
    return re.sub(r"\s*\n[ \t]*(?:# |\* |// )?", " ", text)


def headings(page: str) -> set[str]:
    """The anchors of a page's headings, as forges make them."""
    lines = (ROOT / page).read_text(encoding="utf-8").splitlines()
    words = [line.lstrip("#").strip().lower() for line in lines if line.startswith("#")]
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in words}


def numbers(page: str, pattern: str) -> set[str]:
    """What a page numbers, by a pattern at the beginning of a line."""
    return set(re.findall(pattern, (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE))


def cited(pattern: re.Pattern[str]) -> list[tuple[str, Any]]:
    """What files cite, as (file, what); this one cites nothing."""
    return [(path, found) for path, text in texts().items() if path != THIS for found in pattern.findall(text)]


def is_there(path: str, page: str) -> bool:
    """Whether a page is one from the root, from beside the file that names it, or from `docs/`."""
    return any((base / page).exists() for base in (ROOT, (ROOT / path).parent, ROOT / "docs"))


def test_every_page_that_is_named_is_in_the_project():
    """Tests write pages of their own; there only what is called like one of the project's counts."""

    def counts(path: str, page: str) -> bool:
        return not path.startswith("tests/") or "docs/" in page or Path(page).stem.isupper()

    named = [(path, page) for path, page in cited(PAGE) if counts(path, page)]
    assert len(named) > 40
    assert [(path, page) for path, page in named if not is_there(path, page)] == []


def test_every_section_of_the_methods_that_is_cited_is_there():
    sections = numbers("docs/METHODS.md", r"^#{2,3} (\d+(?:\.\d+)?)\b")
    found = [(path, f"{folder}METHODS{suffix}", number) for path, (folder, suffix, number) in cited(METHOD)]
    assert len(found) > 20
    assert [cite for cite in found if cite[1] != "docs/METHODS.md" or cite[2] not in sections] == []


def test_every_host_fact_that_is_cited_is_there():
    facts = numbers("docs/ARCHITECTURE.md", r"^(\d+)\. ")
    assert [(path, number) for path, number in cited(HOST_FACT) if number not in facts] == []


def test_every_link_of_a_page_leads_somewhere():
    wrong = []
    for page, text in texts().items():
        for target, anchor in LINK.findall(text) if page.endswith(".md") else ():
            file = (ROOT / page).parent / target if target else ROOT / page
            if not file.exists() or (anchor and anchor not in headings(str(file.relative_to(ROOT)))):
                wrong.append((page, target, anchor))
    assert wrong == []


@pytest.mark.parametrize("page", ["docs/ARCHITECTURE.md", "docs/METHODS.md", "CONTRIBUTING.md"])
def test_files_and_folders_that_the_maps_name_are_there(page):
    named = PATH.findall(texts()[page])
    assert named
    assert [path for path in named if not path.startswith(NOT_OURS) and not (ROOT / path).exists()] == []


def test_the_map_names_every_room():
    """A folder with modules of its own stands in the table, so that a new one is not forgotten."""
    rooms = {Path(path).parent.as_posix() for path in texts() if path.endswith("/__init__.py")}
    rooms -= {room for room in rooms if room.startswith("tests/")}
    text = texts()["docs/ARCHITECTURE.md"]
    within = {"scripts/webui"}  # What is in `scripts/`.
    assert sorted(room for room in rooms - within if f"`{room}/`" not in text) == []


def test_no_code_of_a_help_page_is_wider_than_the_panel_that_the_host_shows_it_in():
    lines = [
        f"{page.name}: {line}"
        for page in (ROOT / "web" / "docs").glob("*.md")
        for line in page.read_text(encoding="utf-8").splitlines()
        if line.startswith("    ") and len(line.strip()) > WIDEST_CODE
    ]
    assert lines == []
