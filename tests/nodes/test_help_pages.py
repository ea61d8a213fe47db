"""The help page of every node says which of its inputs are advanced, as its widgets do. No server is needed."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from anonymize_faces.tools.layout import ROOT

PAGES = sorted(path.stem for path in (ROOT / "web" / "docs").glob("*.md"))
ROW = re.compile(r"^(?:\| )?((?:`\w+`(?:, | … |, …, )?)+)(?: \||:)", re.MULTILINE)
NUMBERED = re.compile(r"\d+$")


def rows(text: str) -> set[str]:
    """The names of inputs in the tables of a part of a page; those with a number at their end as one."""
    return {NUMBERED.sub("", name) for row in ROW.findall(text) for name in re.findall(r"`(\w+)`", row)}


def told(page: str) -> tuple[set[str], set[str]]:
    """The inputs of a page outside of its part "Advanced", and in it."""
    text = (ROOT / "web" / "docs" / f"{page}.md").read_text(encoding="utf-8")
    (inputs,) = re.findall(r"^## Inputs?\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    plain, _, advanced = inputs.partition("\nAdvanced:\n")
    return rows(plain), rows(advanced)


@pytest.fixture(scope="module")
def widgets(host_modules: None) -> Iterator[dict[str, dict[str, bool]]]:
    """Of each node by its id: its inputs, and whether they are advanced."""
    import folder_paths

    import anonymize_faces
    from anonymize_faces.nodes import node_classes

    before = dict(folder_paths.folder_names_and_paths)
    anonymize_faces._register_folders()
    schemas = [node.define_schema() for node in node_classes()]  # type: ignore[attr-defined]
    yield {
        schema.node_id: {
            NUMBERED.sub("", one.id): bool((one.extra_dict or {}).get("advanced")) for one in schema.inputs
        }
        for schema in schemas
    }
    folder_paths.folder_names_and_paths.clear()
    folder_paths.folder_names_and_paths.update(before)


@pytest.mark.parametrize("page", PAGES)
def test_a_page_says_which_inputs_are_advanced(page: str, widgets: dict[str, dict[str, bool]]) -> None:
    plain, advanced = told(page)
    assert advanced == {name for name, is_advanced in widgets[page].items() if is_advanced}
    assert plain == {name for name, is_advanced in widgets[page].items() if not is_advanced}


def test_every_node_has_a_page(widgets: dict[str, dict[str, bool]]) -> None:
    assert widgets.keys() == set(PAGES)


def test_folders_whose_names_are_markup_or_no_text_are_not_offered(
    host_modules: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from anonymize_faces.nodes import describe

    (tmp_path / "people" / "Ada Example").mkdir(parents=True)
    (tmp_path / "<img src=x onerror=alert(1)>" / "within").mkdir(parents=True)
    (tmp_path / "people" / "a\nb").mkdir()
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/no text \xff")).mkdir()
    monkeypatch.setattr(describe.folder_paths, "get_input_directory", lambda: str(tmp_path))
    assert describe._input_folders() == ["people", "people/Ada Example"]
    combo: Any = next(one for one in describe.DescribePeople.define_schema().inputs if one.id == "folder")
    assert combo.options == [describe.DEMO_PEOPLE, "people", "people/Ada Example"]
