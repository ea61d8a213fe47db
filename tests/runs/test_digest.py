"""The digest of what answers follow from: the same in every process, and wherever the extension lies."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
import torch

from anonymize_faces.engines.options import Drawing
from anonymize_faces.runs.digest import digest_of
from anonymize_faces.tools.layout import ROOT

ELSEWHERE = "/elsewhere/custom_nodes/faces"


@pytest.fixture
def elsewhere() -> Iterator[str]:
    """The package again, as the host loads it from another folder: under the name of its path."""
    spec = importlib.util.spec_from_file_location(
        ELSEWHERE, ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
    )
    assert spec is not None and spec.loader is not None
    sys.modules[ELSEWHERE] = package = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(package)
    yield ELSEWHERE
    for name in [name for name in sys.modules if name.startswith(ELSEWHERE)]:
        del sys.modules[name]


def test_it_does_not_depend_on_the_folder_that_the_extension_lies_in(elsewhere: str) -> None:
    def there(module: str) -> ModuleType:
        return importlib.import_module(f"{elsewhere}.{module}")

    other = there("engines.options").Drawing(steps=7)
    assert type(other) is not Drawing
    assert there("runs.digest").digest_of(other) == digest_of(Drawing(steps=7)) != digest_of(Drawing(steps=8))


@pytest.mark.parametrize("folder", ["/opt/ComfyUI/custom_nodes/", "C:\\ComfyUI\\custom_nodes\\"])
def test_nor_on_the_folder_of_another_extension_whose_patch_it_follows(folder: str) -> None:
    def patch(module: str, strength: float) -> Any:
        def patched(x: float) -> float:
            return x * strength

        patched.__module__ = module
        return patched

    assert digest_of(patch(f"{folder}pack.nodes", 0.5)) == digest_of(patch("/home/me/pack.nodes", 0.5))
    assert digest_of(patch(f"{folder}pack.nodes", 0.5)) != digest_of(patch(f"{folder}pack.nodes", 0.6))
    assert digest_of(patch(f"{folder}pack.nodes", 0.5)) != digest_of(patch(f"{folder}other.nodes", 0.5))


def test_it_is_that_of_the_values() -> None:
    assert digest_of(torch.arange(3.0), {"a": (1, None)}) == digest_of(torch.arange(3.0), {"a": (1, None)})
    values = [torch.arange(3.0), torch.arange(3), torch.arange(3.0) + 1, "a", {"a": 1}, {"a": 2}, [1], None]
    assert len({digest_of(value) for value in values}) == len(values)
