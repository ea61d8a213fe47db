"""Reads all imports, and holds the rule of docs/ARCHITECTURE.md: they point one way, and form no cycle."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from anonymize_faces.tools.layout import ROOT

PACKAGE = "anonymize_faces"

LEVELS = {
    "prefix": 0,
    "faces": 1,
    "runs": 1,
    "tools": 1,
    "engines": 2,
    "finetuning": 3,
    "trainer": 4,
    "photos": 4,
    "captions": 4,
    "experts": 4,
    "evaluation": 5,
    "demo": 6,
    "cli": 7,
    "scripts": 7,
    "nodes": 7,
}
"""A package imports itself and packages of a lower level; those of the same level know nothing of each other."""

OUTSIDE = {"tests", "benchmarks"}
"""May import every package; none imports them."""

ENTRY_POINTS = {"__init__.py", "install.py", "trainer/__main__.py"}
"""Where a host or a person comes in: these call whatever does the work, wherever it lies."""

ONLY = {
    "comfy": ("__init__.py", "nodes/", "engines/comfy/", "demo/"),
    "diffusers": ("engines/diffusers/", "demo/diffusers_folder.py"),
}
"""Where foreign packages may be imported; "comfy" stands for whatever begins like it, and the host's other modules."""

NOT_FROM_PIP = {"facenet_pytorch", "eval_unlearn"}
"""Other packages that headless code uses if they are there: `install.py` adds one, the other calls ours."""

PIP_NAMES = {"PIL": "pillow", "tomllib": "tomli", "torch_fidelity": "torchmetrics", "huggingface_hub": "transformers"}
"""What brings a module whose name is another one."""

HOST = {"folder_paths", "nodes", "server", "execution", "latent_preview", "node_helpers"}


class Import(NamedTuple):
    """One name that a file imports: of ours, as a path from the root, or of others, as their top package."""

    file: str
    line: int
    ours: str
    others: str
    typing_only: bool


def sources() -> list[str]:
    """All modules of the project, as paths from its root."""
    folders = (p for p in ROOT.iterdir() if p.is_dir() and not p.name.startswith(".") and p.name != "build")
    found = [*ROOT.glob("*.py"), *(path for folder in folders for path in folder.rglob("*.py"))]
    paths = (path.relative_to(ROOT).as_posix() for path in found)
    return sorted(path for path in paths if "/node_modules/" not in path)


@cache
def imports() -> tuple[Import, ...]:
    """Every import of every module, inside of functions too."""
    return tuple(found for file in sources() for found in _imports_of(file))


def _imports_of(file: str) -> Iterator[Import]:
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        checking = id(node) in typing_only
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(file, node.lineno, "", alias.name.split(".")[0], checking)
        elif isinstance(node, ast.ImportFrom):
            base = _base(file, node)
            if base is None:
                yield Import(file, node.lineno, "", (node.module or "").split(".")[0], checking)
                continue
            for alias in node.names:
                yield Import(file, node.lineno, _module([*base, alias.name]) or _module(base), "", checking)


def _base(file: str, node: ast.ImportFrom) -> list[str] | None:
    """What `from … import` speaks of, as parts of a path from the root; None for what is not ours."""
    words = node.module.split(".") if node.module else []
    if node.level:
        folder = file.split("/")[:-1]
        return [*folder[: len(folder) - node.level + 1], *words]
    return words[1:] if words[0] == PACKAGE else None


def _module(parts: list[str]) -> str:
    """The file of a module, empty if there is none."""
    for path in ("/".join([*parts[:-1], f"{parts[-1]}.py"]) if parts else "", "/".join([*parts, "__init__.py"])):
        if path and (ROOT / path).is_file():
            return path
    return ""


def top(file: str) -> str:
    """The folder of the root that a file lies in, or the file itself."""
    return file.split("/")[0]


def test_every_import_of_ours_leads_to_a_module():
    assert [found for found in imports() if not found.others and not found.ours] == []


def test_every_package_has_its_level():
    found = {top(file) for file in sources() if "/" in file}
    assert found <= LEVELS.keys() | OUTSIDE


def test_imports_point_one_way():
    def allowed(found: Import) -> bool:
        here, there = top(found.file), top(found.ours)
        if found.file in ENTRY_POINTS or here in OUTSIDE or here == there:
            return True
        if found.ours == "__init__.py":
            # The entry point refuses prompts where nothing else can be imported, and so knows where a setting may be.
            return here == "nodes" or found.file == "prefix/enforced_setting.py"
        return LEVELS.get(there, 99) < LEVELS[here]

    assert [found for found in imports() if found.ours and not allowed(found)] == []


def test_nothing_imports_the_nodes_but_the_entry_point():
    outside = ("nodes/", "tests/")
    strange = [f for f in imports() if top(f.ours) == "nodes" and not f.file.startswith(outside)]
    assert {found.file for found in strange} <= {"__init__.py"}


@pytest.mark.parametrize("package", ONLY)
def test_hosts_are_imported_where_they_are_spoken_to_and_nowhere_else(package):
    def is_it(name: str) -> bool:
        return name == package or (package == "comfy" and (name.startswith("comfy") or name in HOST))

    strange = [f for f in imports() if is_it(f.others) and top(f.file) not in OUTSIDE | {"tools"}]
    assert [found for found in strange if not found.file.startswith(ONLY[package])] == []


def test_no_test_module_imports_another():
    tests = [f for f in imports() if top(f.file) == "tests" and top(f.ours) == "tests"]
    assert [f for f in tests if Path(f.ours).name.startswith(("test_", "conftest"))] == []


def test_benchmarks_import_no_tests():
    assert [f for f in imports() if top(f.file) == "benchmarks" and top(f.ours) == "tests"] == []


def test_pip_installs_all_that_the_command_line_can_be_asked_for():
    settings = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    packages = set(re.findall(rf'^    "{PACKAGE}\.?([\w.]*)",$', settings, re.MULTILINE))
    waiting = ["trainer/__main__.py", "demo/recognizer.py", "engines/diffusers/eval_unlearn.py"]
    waiting += [file for file in sources() if file.startswith("cli/")]
    reached: set[str] = set()
    while waiting:
        file = waiting.pop()
        if file not in reached:
            reached.add(file)
            # What the loader loads into ComfyUI it imports there; the reader reads its weights. Of the entry point
            # headless code needs no more than names.
            if file not in ("demo/loader.py", "__init__.py"):
                waiting += [f.ours for f in imports() if f.file == file and f.ours and not f.typing_only]
    reached.discard("__init__.py")
    assert len(reached) > 50
    assert {Path(file).parent.as_posix().replace("/", ".") for file in reached} <= packages

    extra = re.search(r"^headless = \[(.*?)^\]", settings, re.MULTILINE | re.DOTALL)
    brought = set(re.findall(r'^    "([\w-]+)', extra[1], re.MULTILINE))
    others = {found.others for found in imports() if found.file in reached and found.others}
    wanted = others - sys.stdlib_module_names - NOT_FROM_PIP - HOST - {PACKAGE, "__future__"}
    assert {PIP_NAMES.get(name, name) for name in wanted if not name.startswith("comfy")} <= brought


def test_no_cycle_of_imports():
    """What only a type checker follows is left out; imports inside of functions count."""
    graph: dict[str, set[str]] = {}
    for found in imports():
        # A package's table of contents is told by what it lists, not by what imports from it.
        if found.ours and not found.typing_only and found.file != found.ours and found.file not in ENTRY_POINTS:
            graph.setdefault(found.file, set()).add(found.ours)
    assert list(_cycles(graph)) == []


def _cycles(graph: dict[str, set[str]]) -> Iterator[list[str]]:
    done: set[str] = set()

    def walk(file: str, path: list[str]) -> Iterator[list[str]]:
        if file in path:
            yield path[path.index(file) :]
        elif file not in done:
            for other in sorted(graph.get(file, ())):
                yield from walk(other, [*path, file])
            done.add(file)

    for file in sorted(graph):
        yield from walk(file, [])


def test_two_classes_never_share_a_name():
    places: dict[str, list[str]] = {}
    for file in sources():
        if top(file) != "tests":
            for node in ast.walk(ast.parse((ROOT / file).read_text(encoding="utf-8"))):
                if isinstance(node, ast.ClassDef):
                    places.setdefault(node.name, []).append(file)
    assert {name: files for name, files in places.items() if len(files) > 1} == {}
