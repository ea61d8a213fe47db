"""A real server lists the prefix files that are there, follows no links elsewhere, and tells notices."""

from __future__ import annotations

import contextlib
import os
import shutil
import struct

import pytest
import torch
import websocket

from anonymize_faces.prefix import Prefix, load_prefix, save_prefix
from anonymize_faces.tests.support.malice import Malice
from anonymize_faces.tests.support.prefixes import random_prefix
from anonymize_faces.tools.comfy_server import ComfyServer, WorkflowError

NODES = (("LoadAnonymizationPrefix", "file"), ("AnonymizeFaces", "prefix"))
PREVIEW = {"class_type": "PreviewAny", "inputs": {"source": ["anonymize", 0]}}
PROGRESS_TEXT = 3
"""Of the host's binary events, those whose text the browser sets as markup."""

DEMO = {"class_type": "LoadDemoModel", "inputs": {}}


@pytest.fixture
def folder(server):
    """A sub folder of the server's prefix files that is gone afterwards."""
    folder = server.prefix_folder / "folder"
    folder.mkdir()
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def prefix(fingerprint: str = "", family: str = "sd1", seed: int = 0, **widths: int) -> Prefix:
    return random_prefix(widths or {"l": 768}, 3, seed, family=family, fingerprint=fingerprint)


def listed(server: ComfyServer) -> set[str]:
    """What both nodes offer below folder/."""
    info = server.object_info()
    inputs = [{**info[node]["input"]["required"], **info[node]["input"].get("optional", {})} for node, _ in NODES]
    lists = [told[name][1]["options"] for told, (_, name) in zip(inputs, NODES, strict=True)]
    assert lists[0] == lists[1]
    return {name for name in lists[0] if name.startswith("folder/")}


def load_and_save(name: str, target: str, format: str = "safetensors") -> dict:
    save = {"prefix": ["load", 0], "name": target, "format": format}
    return {
        "load": {"class_type": "LoadAnonymizationPrefix", "inputs": {"file": name}},
        "save": {"class_type": "SaveAnonymizationPrefix", "inputs": save},
    }


def test_the_list_follows_files_and_folders_that_come_and_go(server, folder):
    assert listed(server) == set()
    deep = folder / "deep" / "deeper"
    save_prefix(prefix(), deep / "one.safetensors")
    torch.save({"x": torch.zeros(1, 768)}, folder / "two.pt")
    torch.save({"x": torch.zeros(1, 768)}, folder / "three.BIN")
    (folder / "notes.txt").touch()
    (folder / ".anonymize-faces-0.safetensors").touch()
    everything = {"folder/deep/deeper/one.safetensors", "folder/two.pt", "folder/three.BIN"}
    assert listed(server) == everything
    (deep / "one.safetensors").rename(deep / "renamed.safetensors")
    assert listed(server) == everything ^ {
        "folder/deep/deeper/one.safetensors",
        "folder/deep/deeper/renamed.safetensors",
    }
    shutil.rmtree(folder / "deep")
    assert listed(server) == {"folder/two.pt", "folder/three.BIN"}
    (folder / "two.pt").unlink()
    assert listed(server) == {"folder/three.BIN"}
    shutil.rmtree(folder)
    assert listed(server) == set()


def test_the_nodes_live_on_when_the_whole_folder_is_taken_away(server):
    away = server.prefix_folder.rename(server.prefix_folder.with_name("away"))
    try:
        assert listed(server) == set()
        with pytest.raises(WorkflowError, match=r"no prefix file 'x\.pt': put it into"):
            server.run(load_and_save("x.pt", "y"))
    finally:
        away.rename(server.prefix_folder)


@pytest.mark.parametrize("name", ["chosen.safetensors", "chosen.pt"])
def test_a_file_deleted_between_choosing_and_queueing_is_named_with_the_remedy(server, folder, name):
    torch.save({"x": torch.zeros(1, 768)}, folder / "chosen.pt")
    save_prefix(prefix(), folder / "chosen.safetensors")
    assert f"folder/{name}" in listed(server)
    (folder / name).unlink()
    with pytest.raises(WorkflowError, match=rf"no prefix file 'folder/{name}': put it into models") as failure:
        server.run(load_and_save(f"folder/{name}", "folder/never"))
    assert failure.value.node_id == "load"


def test_links_that_lead_out_of_the_folder_are_refused_and_those_within_are_followed(server, folder, tmp_path):
    save_prefix(prefix(), tmp_path / "outside" / "p.safetensors")
    save_prefix(prefix(), folder / "inside.safetensors")
    (folder / "out.safetensors").symlink_to(tmp_path / "outside" / "p.safetensors")
    (folder / "outside").symlink_to(tmp_path / "outside")
    (folder / "in.safetensors").symlink_to(folder / "inside.safetensors")
    (folder / "loop.safetensors").symlink_to(folder / "loop.safetensors")
    for name in ("out.safetensors", "outside/p.safetensors"):
        with pytest.raises(WorkflowError, match="leads out of models/anonymization_prefixes: put the file itself"):
            server.run(load_and_save(f"folder/{name}", "folder/never"))
    with pytest.raises(WorkflowError, match="no prefix file"):
        server.run(load_and_save("folder/loop.safetensors", "folder/never"))
    server.run(load_and_save("folder/in.safetensors", "folder/copy"))
    assert load_prefix(folder / "copy.safetensors").length == 3
    assert not (folder / "never.safetensors").exists()


def test_the_folder_itself_may_be_a_link(server, tmp_path):
    real = server.prefix_folder.rename(tmp_path / "real")
    server.prefix_folder.symlink_to(real)
    try:
        save_prefix(prefix(), real / "linked.safetensors")
        server.run(load_and_save("linked.safetensors", "linked_copy"))
        assert load_prefix(real / "linked_copy.safetensors").length == 3
    finally:
        server.prefix_folder.unlink()
        real.rename(server.prefix_folder)


@pytest.mark.parametrize(
    "name",
    ["../up.safetensors", "/etc/hostname", "folder/../../up.pt", "..\\up.pt", "C:\\up.pt", "con.pt", "folder/nul.bin"]
    + ["\\\\server\\share\\p.pt", "folder//p.pt", ".hidden.pt", "a\0b.pt", "a\nb.pt", "x" * 300 + ".pt"],
)
def test_a_name_that_leads_elsewhere_is_refused_before_anything_is_opened(server, name):
    (server.prefix_folder.parent / "up.safetensors").write_bytes(b"")
    (server.prefix_folder.parent / "up.pt").write_bytes(b"")
    with pytest.raises(WorkflowError, match=r"cannot name a prefix file because .*: use letters") as failure:
        server.run(load_and_save(name, "folder/never"))
    assert failure.value.node_id == "load"


def test_a_textual_inversion_is_saved_where_the_host_finds_it_and_never_in_the_place_of_another(server, folder):
    original = prefix()
    save_prefix(original, folder / "p.safetensors")
    embeddings = server.embedding_folder

    def export(name: str) -> str:
        save = load_and_save("folder/p.safetensors", name, "textual inversion")
        (text,) = server.run(save)["outputs"]["save"]["text"]
        return os.path.relpath(text, embeddings)

    assert export("people/anonymous") == "people/anonymous.safetensors"
    assert torch.equal(load_prefix(embeddings / "people" / "anonymous.safetensors").vectors["l"], original.vectors["l"])
    assert export("people/anonymous.safetensors") == "people/anonymous.safetensors"  # The same one is not saved twice.
    assert os.listdir(embeddings / "people") == ["anonymous.safetensors"]

    save_prefix(prefix(seed=1), folder / "p.safetensors", overwrite=True)
    assert export("people/anonymous") == "people/anonymous_2.safetensors"
    (embeddings / "mine.pt").write_bytes(b"the artist's own")
    assert export("mine") == "mine_2.safetensors"  # The host would take mine.safetensors for mine.pt.
    assert (embeddings / "mine.pt").read_bytes() == b"the artist's own"


def test_a_prefix_for_other_encoders_is_not_exported(server, folder):
    save_prefix(prefix(h=1024), folder / "p.safetensors")
    with pytest.raises(WorkflowError, match="Only prefixes for SD1 and SDXL") as failure:
        server.run(load_and_save("folder/p.safetensors", "never", "textual inversion"))
    assert failure.value.node_id == "save"
    assert not (server.embedding_folder / "never.safetensors").exists()


def test_an_import_becomes_a_prefix_file_that_says_so(server, folder):
    torch.save({"string_to_token": {"alz": 1985}, "string_to_param": {"alz": torch.ones(10, 768)}}, folder / "apl.pt")
    server.run(load_and_save("folder/apl.pt", "folder/imported"))
    loaded = load_prefix(folder / "imported.safetensors")
    assert torch.equal(loaded.vectors["l"], torch.ones(10, 768)) and "Imported from" in loaded.record.notes


def test_code_in_a_chosen_file_is_refused_and_not_run(server, folder, tmp_path):
    torch.save({"x": Malice(tmp_path / "done")}, folder / "p.pt")
    with pytest.raises(WorkflowError, match="holds code or objects"):
        server.run(load_and_save("folder/p.pt", "folder/never"))
    assert not (tmp_path / "done").exists()


def test_a_huge_file_does_not_hold_up_the_server(server, folder):
    with (folder / "huge.pt").open("wb") as huge:
        huge.truncate(2**40)
    with pytest.raises(WorkflowError, match="larger than 64 MiB"):
        server.run(load_and_save("folder/huge.pt", "folder/never"), timeout=30)


def protect(server: ComfyServer, name: str, strength: float = 1.0) -> str:
    """What Anonymize Faces says on the demo model."""
    inputs = {"clip": ["demo", 1], "prefix": f"folder/{name}", "strength": strength}
    graph = {"demo": DEMO, "anonymize": {"class_type": "AnonymizeFaces", "inputs": inputs}, "show": PREVIEW}
    (text,) = server.run(graph)["outputs"]["anonymize"]["text"]
    return text


def demo_fingerprint() -> str:
    from anonymize_faces.demo.loader import load_demo_model
    from anonymize_faces.prefix import fingerprint

    _, clip, _ = load_demo_model()
    return fingerprint(clip.cond_stage_model.state_dict())


def test_a_prefix_of_another_checkpoint_works_and_says_so(server, folder, host_modules):
    save_prefix(prefix(demo_fingerprint(), l=192), folder / "same.safetensors")
    save_prefix(prefix("0" * 16, l=192), folder / "other.safetensors")
    save_prefix(prefix("", l=192), folder / "unknown.safetensors")
    assert protect(server, "same.safetensors") == "Protected with 3 vectors. It holds at clip skip 1."
    assert "learned on another checkpoint" in protect(server, "other.safetensors")
    assert "not known whether" in protect(server, "unknown.safetensors")
    assert protect(server, "same.safetensors", 0.0) == "Not protected: strength is 0."


def test_a_prefix_of_another_family_stops_the_workflow(server, folder):
    save_prefix(prefix(family="SDXL", l=192, g=1280), folder / "sdxl.safetensors")
    with pytest.raises(WorkflowError, match=r"learned on SDXL, .* another family \(SD1\): choose a prefix") as failure:
        protect(server, "sdxl.safetensors")
    assert failure.value.node_id == "anonymize"


def test_what_the_node_says_is_no_text_that_the_host_would_take_for_markup(server, folder):
    save_prefix(prefix("0" * 16, l=192), folder / "other.safetensors")
    browser = websocket.create_connection(f"ws://127.0.0.1:{server.port}/ws?clientId=browser", timeout=3)
    assert protect(server, "other.safetensors")
    kinds = set()
    with contextlib.suppress(websocket.WebSocketTimeoutException):
        while message := browser.recv():
            kinds.add("events" if isinstance(message, str) else struct.unpack(">I", message[:4])[0])
    browser.close()
    assert kinds and PROGRESS_TEXT not in kinds
