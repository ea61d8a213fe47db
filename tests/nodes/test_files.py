"""Prefixes survive being saved and loaded by a real server."""

from __future__ import annotations

import dataclasses
import io
import os
from pathlib import Path

import pytest
import torch
from PIL import Image

from anonymize_faces.prefix import Prefix, PrefixRecord, load_prefix, save_prefix
from anonymize_faces.prefix.files.preview import load_with_preview, save_preview
from anonymize_faces.tools.comfy_server import WorkflowError


@pytest.fixture(scope="module")
def folder(server):
    return server.prefix_folder / "files"


@pytest.fixture(scope="module")
def original(folder):
    record = PrefixRecord(family="sd1", fingerprint="0" * 16, settings={"vectors": 3}, scores={"preservation": 0.1})
    return save_prefix(Prefix({"l": torch.randn(3, 192)}, record), folder / "original.safetensors")


@pytest.fixture(scope="module")
def save(server, original):
    """Loads a prefix file on the server and saves it under a name; the path that the node shows."""

    def save(name: str, source: str = "files/original.safetensors") -> Path:
        graph = {
            "load": {"class_type": "LoadAnonymizationPrefix", "inputs": {"file": source}},
            "save": {
                "class_type": "SaveAnonymizationPrefix",
                "inputs": {"prefix": ["load", 0], "name": name, "format": "safetensors"},
            },
        }
        (text,) = server.run(graph)["outputs"]["save"]["text"]
        return Path(text)

    return save


def test_a_prefix_comes_back_whole_after_loading_and_saving(save, original, folder):
    path = save("files/copy")
    assert path == folder / "copy.safetensors"
    assert path.read_bytes() == original.read_bytes()


def test_the_picture_beside_a_file_goes_with_the_prefix_to_the_next_one(save, original, folder):
    picture = io.BytesIO()
    Image.linear_gradient("L").resize((64, 32)).save(picture, "JPEG")
    shown = dataclasses.replace(load_prefix(original), preview=picture.getvalue())
    save_preview(shown, save_prefix(shown, folder / "shown.safetensors"))
    path = save("files/with a picture", "files/shown.safetensors")
    assert load_with_preview(path).preview and path.read_bytes() == original.read_bytes()


def test_saving_the_same_prefix_again_writes_nothing(save, original, folder):
    first = save("files/again")
    stamp = first.stat().st_mtime_ns
    assert save("files/again.safetensors") == first
    assert first.stat().st_mtime_ns == stamp
    assert [name for name in os.listdir(folder) if "again" in name] == ["again.safetensors"]


def test_another_prefix_of_the_same_name_gets_a_number(save, folder):
    other = Prefix({"l": torch.ones(2, 192)}, PrefixRecord(family="sd1", fingerprint=""))
    save_prefix(other, folder / "taken.safetensors")
    assert save("files/taken") == folder / "taken_2.safetensors"
    assert save("files/taken ") == folder / "taken_2.safetensors"
    assert load_prefix(folder / "taken.safetensors").length == 2


def test_a_saved_prefix_is_listed_at_once(save, server):
    save("files/deeper/listed")
    for node, name in (("LoadAnonymizationPrefix", "file"), ("AnonymizeFaces", "prefix")):
        info = server.object_info()[node]["input"]
        options = {**info["required"], **info.get("optional", {})}[name][1]["options"]
        assert "files/deeper/listed.safetensors" in options


@pytest.mark.parametrize("name", ["", "../up", "/tmp/up", "C:\\up", "con", "a?b"])
def test_a_name_that_cannot_be_a_file_in_the_folder_is_refused_with_the_remedy(save, name):
    with pytest.raises(WorkflowError, match=r"cannot name a prefix file.*use letters") as failure:
        save(name)
    assert failure.value.node_id == "save"


def test_loading_a_missing_file_is_refused_with_the_remedy(save):
    with pytest.raises(WorkflowError, match=r"no prefix file 'files/gone\.safetensors': put it into") as failure:
        save("files/never", "files/gone.safetensors")
    assert failure.value.node_id == "load"


def test_loading_a_damaged_file_is_refused_with_the_remedy(save, folder, original):
    (folder / "damaged.safetensors").write_bytes(original.read_bytes()[:-8])
    with pytest.raises(WorkflowError, match=r"'damaged\.safetensors' cannot be used.*Choose another file") as failure:
        save("files/never", "files/damaged.safetensors")
    assert failure.value.node_id == "load"
    assert not (folder / "never.safetensors").exists()


@pytest.mark.parametrize("node", ["LoadAnonymizationPrefix", "SaveAnonymizationPrefix"])
def test_every_socket_is_explained(server, node):
    info = server.object_info()[node]
    assert all(options["tooltip"] for _, options in info["input"]["required"].values())
    assert all(info.get("output_tooltips", ()))
    assert info["category"] == "anonymize" and info["description"]
