"""No half file is left behind, and no artist's file is written over."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from anonymize_faces.prefix import (
    Prefix,
    PrefixFileError,
    PrefixFileExistsError,
    PrefixRecord,
    load_prefix,
    save_prefix,
)
from anonymize_faces.prefix.files import storage

RECORD = PrefixRecord(family="sd1", fingerprint="")

KILLS = 50
KILLER = """
import contextlib, os, random, signal, sys, time
from pathlib import Path
import torch
from anonymize_faces.prefix import *
torch.set_num_threads(1)  # A forked process has none of its parent's threads, and would wait for them.
folder, kills, links = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "links"
if not links:
    def refuse(*_): raise PermissionError(1, "Operation not permitted")
    Path.hardlink_to = refuse
prefix = Prefix({"l": torch.full((60, 8192), 0.5)}, PrefixRecord(family="sd1", fingerprint=""))
def save_until_killed(kill):
    number = 0
    while True:
        number += 1
        with contextlib.suppress(PrefixFileExistsError):
            save_prefix(prefix, folder / f"{kill}_{number}.safetensors")
        save_prefix(prefix, folder / "same.safetensors", overwrite=True)
def begun():
    return {name for name in os.listdir(folder) if name.startswith(".")}
def wait_until(happens):
    while not happens():
        assert os.waitpid(child, os.WNOHANG) == (0, 0)
chance = random.Random(0)
for kill in range(kills):
    left = begun()
    child = os.fork()
    if not child:
        save_until_killed(kill)
    wait_until((folder / f"{kill}_1.safetensors").exists)
    if kill % 2:
        wait_until(lambda: begun() - left)
    else:
        time.sleep(chance.uniform(0.001, 0.04))
    os.kill(child, signal.SIGKILL)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
"""


def one_prefix(value: float = 0.0, m: int = 2) -> Prefix:
    return Prefix({"l": torch.full((m, 4), float(value))}, RECORD)


@pytest.mark.parametrize("links", ["links", "no links"])
def test_fifty_processes_killed_while_they_save_leave_whole_files_only(tmp_path, links):
    folder = tmp_path / "prefixes"
    folder.mkdir()
    subprocess.run([sys.executable, "-c", KILLER, str(folder), str(KILLS), links], check=True, timeout=500)
    names = os.listdir(folder)
    whole = [name for name in names if not name.startswith(".")]
    left = [name for name in names if name.startswith(".")]
    assert {name.partition("_")[0] for name in whole} >= {str(kill) for kill in range(KILLS)}  # They did save …
    assert len(left) > 2  # … and were killed in the middle of it.
    assert all(storage._TEMPORARY_NAME.fullmatch(name) for name in left)
    for name in whole:
        loaded = load_prefix(folder / name)
        assert loaded.length == 60 and bool((loaded.vectors["l"] == 0.5).all())

    save_prefix(one_prefix(), folder / "fresh.safetensors")
    assert set(left) <= set(os.listdir(folder))  # They may be somebody's who saves just now.
    for name in left:
        os.utime(folder / name, (0, time.time() - 2 * storage.STALE_SECONDS))
    save_prefix(one_prefix(), folder / "next.safetensors")
    assert sorted(os.listdir(folder)) == sorted([*whole, "fresh.safetensors", "next.safetensors"])


def test_only_our_own_old_temporary_files_are_removed(tmp_path):
    others = [".hidden", ".anonymize-faces-notes.tmp", "old.tmp", ".anonymize-faces-" + "0" * 32 + ".safetensors"]
    for name in others:
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (0, 0))
    save_prefix(one_prefix(), tmp_path / "p.safetensors")
    assert sorted(os.listdir(tmp_path)) == sorted([*others, "p.safetensors"])


@pytest.fixture(params=["links", "no links"])
def links(request, monkeypatch):
    """A file system that knows hard links, and one that does not."""

    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    if request.param == "no links":
        monkeypatch.setattr(storage.Path, "hardlink_to", refuse)


@pytest.mark.usefixtures("links")
def test_of_many_who_save_under_one_name_one_succeeds(tmp_path):
    def save(number: int) -> bool:
        try:
            save_prefix(one_prefix(number), tmp_path / "p.safetensors")
        except PrefixFileExistsError:
            return False
        return True

    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(save, range(64))) == 1
    assert os.listdir(tmp_path) == ["p.safetensors"]


@pytest.mark.usefixtures("links")
def test_nothing_is_overwritten_whatever_it_is(tmp_path):
    (tmp_path / "file.safetensors").write_text("mine")
    (tmp_path / "folder.safetensors").mkdir()
    (tmp_path / "link.safetensors").symlink_to(tmp_path / "nothing")
    for name in sorted(os.listdir(tmp_path)):
        with pytest.raises(PrefixFileExistsError, match="choose another name"):
            save_prefix(one_prefix(), tmp_path / name)
    assert (tmp_path / "file.safetensors").read_text() == "mine"
    assert sorted(os.listdir(tmp_path)) == ["file.safetensors", "folder.safetensors", "link.safetensors"]


def test_a_full_disk_leaves_nothing_behind_and_says_what_to_do(tmp_path, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(storage.os, "fsync", full)
    with pytest.raises(PrefixFileError, match=r"No space left on device.*has room"):
        save_prefix(one_prefix(), tmp_path / "p.safetensors")
    assert os.listdir(tmp_path) == []
