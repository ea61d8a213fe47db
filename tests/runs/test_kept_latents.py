"""Latents outlive a run, for the model that drew them alone; a disk that fails leaves them out."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from anonymize_faces.runs.kept_latents import MODELS_KEPT, KeptLatents

SHAPE = (4, 2, 3)


def test_what_is_kept_is_had_again_by_the_same_model_and_prompt_alone(tmp_path: Path) -> None:
    latent = torch.randn(SHAPE)
    KeptLatents(tmp_path, "one", SHAPE).put("a dog", latent)
    again = KeptLatents(tmp_path, "one", SHAPE)
    assert "a dog" in again and "a cat" not in again and again.get("a cat") is None
    found = again.get("a dog")
    assert found is not None and torch.equal(found, latent)
    assert KeptLatents(tmp_path, "two", SHAPE).get("a dog") is None
    assert KeptLatents(tmp_path, "one", (4, 2, 2)).get("a dog") is None


def test_a_file_that_is_damaged_counts_as_none(tmp_path: Path) -> None:
    kept = KeptLatents(tmp_path, "one", SHAPE)
    kept.put("a dog", torch.randn(SHAPE))
    (file,) = (path for path in tmp_path.rglob("*") if path.is_file())
    for content in (b"", b"\x00" * 40, file.read_bytes()[:-7]):
        file.write_bytes(content)
        assert kept.get("a dog") is None


def test_without_a_folder_or_room_nothing_is_kept_and_nothing_raised(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    for root in (None, tmp_path / "file"):
        kept = KeptLatents(root, "one", SHAPE)
        kept.put("a dog", torch.randn(SHAPE))
        assert "a dog" not in kept and kept.get("a dog") is None


def test_the_models_used_last_are_kept(tmp_path: Path) -> None:
    for number in range(MODELS_KEPT + 2):
        kept = KeptLatents(tmp_path, f"{number}", SHAPE)
        kept.put("a dog", torch.randn(SHAPE))
        for age, path in enumerate(sorted(tmp_path.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)):
            os.utime(path, (1e9 - 10 * age, 1e9 - 10 * age))
    KeptLatents(tmp_path, f"{MODELS_KEPT + 1}", SHAPE)
    there = ["a dog" in KeptLatents(tmp_path, f"{number}", SHAPE) for number in (MODELS_KEPT + 1, MODELS_KEPT)]
    assert there == [True, True] and len(list(tmp_path.iterdir())) <= MODELS_KEPT
