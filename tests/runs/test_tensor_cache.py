"""What was made once is had again, from a file that nobody else sees, or from memory as long as there is room."""

from __future__ import annotations

import resource
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from anonymize_faces.runs import tensor_cache as module
from anonymize_faces.runs.tensor_cache import TensorCache


class Named(NamedTuple):
    """As an entry of the conditionings of diffusers."""

    states: torch.Tensor
    pooled: torch.Tensor | None


VALUES = {
    "host": [torch.randn(1, 7, 5), {"pooled_output": None, "mask": torch.tensor([True, False]), "guidance": 3.5}],
    "half": Named(torch.randn(2, 3).to(torch.bfloat16).T, torch.randn(4, dtype=torch.float16)),
    "number": torch.tensor(7),
    "none": (torch.empty(0, 3),),
}


def leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, (list, tuple)):
        for part in value:
            yield from leaves(part)
    elif isinstance(value, dict):
        yield from leaves(list(value.items()))
    else:
        yield value


def same(one: Any, two: Any) -> bool:
    def alike(a: Any, b: Any) -> bool:
        if isinstance(a, torch.Tensor):
            return a.dtype == b.dtype and torch.equal(a, b)
        return a == b

    return type(one) is type(two) and all(alike(a, b) for a, b in zip(leaves(one), leaves(two), strict=True))


def refuse(names: list[str]) -> list[Any]:
    raise AssertionError(f"made again: {names}")


@pytest.mark.parametrize("on_disk", [True, False])
def test_values_are_made_once_and_come_back_to_the_last_bit(on_disk: bool, tmp_path: Path) -> None:
    tensor_cache = TensorCache(tmp_path if on_disk else None)
    made = tensor_cache.values(list(VALUES), lambda names: [VALUES[name] for name in names])
    names = ["half", *VALUES]
    assert all(same(one, VALUES[name]) for name, one in zip(names, tensor_cache.values(names, refuse), strict=True))
    assert made[0] is VALUES["host"]
    tensor_cache.close()


def test_a_file_keeps_them_out_of_memory_and_has_no_name(tmp_path: Path) -> None:
    tensor_cache = TensorCache(tmp_path, budget=0)
    tensor_cache.prepare(list(VALUES), lambda names: [VALUES[name] for name in names])
    tensor_cache.prepare(list(VALUES), refuse)
    first, again = (tensor_cache.values(["host"], refuse)[0] for _ in range(2))
    assert same(first, VALUES["host"]) and first[0].data_ptr() != again[0].data_ptr()
    assert list(tmp_path.iterdir()) == []
    tensor_cache.close()


def test_a_full_disk_leaves_what_is_there_and_the_rest_goes_to_memory(tmp_path: Path) -> None:
    rows = {name: torch.full((100,), float(index)) for index, name in enumerate("abcd")}
    tensor_cache = TensorCache(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        tensor_cache.values(list(rows), lambda names: [rows[name] for name in names])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    again = tensor_cache.values(list(rows), refuse)
    assert all(torch.equal(one, rows[name]) for name, one in zip(rows, again, strict=True))
    assert again[0] is not rows["a"] and again[3] is rows["d"]
    tensor_cache.prepare(["e"], refuse)
    tensor_cache.close()


def test_the_last_room_of_a_disk_is_left_to_what_cannot_be_had_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LEFT_FREE", shutil.disk_usage(tmp_path).total)
    tensor_cache = TensorCache(tmp_path)
    made = tensor_cache.values(list(VALUES), lambda names: [VALUES[name] for name in names])
    tensor_cache.prepare(["one more"], refuse)
    assert all(one is two for one, two in zip(made, tensor_cache.values(list(VALUES), refuse), strict=True))
    tensor_cache.close()


def test_a_file_takes_no_more_than_it_may(tmp_path: Path) -> None:
    rows = {name: torch.full((100,), float(index)) for index, name in enumerate("abc")}
    tensor_cache = TensorCache(tmp_path, most=900)
    for name, row in rows.items():
        tensor_cache.prepare([name], lambda _, row=row: [row])
    tensor_cache.prepare(["d"], refuse)
    again = tensor_cache.values(list(rows), refuse)
    assert all(torch.equal(one, rows[name]) for name, one in zip(rows, again, strict=True)) and again[2] is rows["c"]
    tensor_cache.close()


def test_without_a_file_the_one_longest_unused_makes_room() -> None:
    tensor_cache, made = TensorCache(budget=2 * 400), []

    def make(names: list[str]) -> list[torch.Tensor]:
        made.extend(names)
        return [torch.zeros(100) for _ in names]

    for name in "abacb":
        tensor_cache.values([name], make)
    assert made == ["a", "b", "c", "b"]
    tensor_cache.prepare(["z"], refuse)
