"""Runs real servers on which enforcement cannot start as it should: they refuse prompts with the reason, and go on."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import requests
import torch
from safetensors.torch import save_file

import anonymize_faces
from anonymize_faces.prefix import enforced_setting, save_prefix
from anonymize_faces.prefix.bypass import ANY_EMBEDDINGS, NO_EMBEDDINGS
from anonymize_faces.prefix.enforced_setting import read_enforcement
from anonymize_faces.tests.support.enforced_workflow import sampling
from anonymize_faces.tests.support.prefixes import demo_prefix
from anonymize_faces.tools.comfy_server import ComfyServer, WorkflowError

EXTENSION = Path(anonymize_faces.__file__).resolve().parent
ENFORCE = {"ANONYMIZE_FACES_ENFORCE": "studio.safetensors"}
PARTS = (
    *("nodes", "prefix", "engines", "runs", "trainer", "evaluation", "faces", "demo", "web", "locales"),
    *("captions", "experts", "finetuning", "photos"),
)


def copy_of_the_extension(folder: Path) -> Path:
    folder.mkdir(parents=True)
    shutil.copy(EXTENSION / "__init__.py", folder)
    for part in PARTS:
        shutil.copytree(EXTENSION / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def server_with(tmp_path: Path, *arguments: str, **environment: str) -> ComfyServer:
    """A server that finds further extensions in `custom_nodes`."""
    paths = tmp_path / "paths.yaml"
    paths.write_text(f"test:\n  custom_nodes: {tmp_path / 'custom_nodes'}\n")
    made = ComfyServer(
        tmp_path / "comfy",
        report=print,
        arguments=["--extra-model-paths-config", str(paths), *arguments],
        environment=environment,
    )
    save_prefix(demo_prefix(0), made.prefix_folder / "studio.safetensors")
    return made


def raising(error: BaseException) -> Callable[..., None]:
    def fail(*_: object) -> None:
        raise error

    return fail


ALONE = ("--disable-all-custom-nodes", "--whitelist-custom-nodes", "copy-of-faces")


def test_an_extension_that_cannot_start_refuses_every_prompt_and_leaves_the_rest_of_the_host_running(tmp_path):
    broken = copy_of_the_extension(tmp_path / "custom_nodes" / "copy-of-faces")
    (broken / "nodes" / "enforcement" / "guards.py").write_text("import a_module_that_nobody_has\n")
    (broken / "enforce.ini").write_text("[enforcement]\nprefix = studio.safetensors\n")
    with server_with(tmp_path, *ALONE) as server:
        pictures = {
            "1": {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": 0}},
            "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
        }
        for graph in (pictures, {"1": {"class_type": "ProtectionRefused", "inputs": {"reason": "none"}}}, {}):
            answer = requests.post(server.url + "/prompt", json={"prompt": graph}, timeout=60)
            assert answer.status_code == 400
            (error,) = answer.json()["node_errors"]["0"]["errors"]
            assert "a_module_that_nobody_has" in error["details"] and "anonymize every prompt" in error["details"]
        assert "KSampler" in server.object_info() and "AnonymizeFaces" not in server.object_info()


def test_two_copies_are_told_once_and_the_servers_setting_holds(tmp_path):
    copy_of_the_extension(tmp_path / "custom_nodes" / "zz-copy-of-faces")
    with server_with(tmp_path, **ENFORCE) as server:
        told = [line for line in server.log().splitlines() if "two copies of Anonymize Faces" in line]
        assert len(told) == 1 and "zz-copy-of-faces" in told[0] and "remove one of them" in told[0]
        pages = requests.get(server.url + "/extensions", timeout=60).json()
        assert len([page for page in pages if page.endswith("anonymize_faces.js")]) == 1
        assert requests.get(server.url + "/anonymize_faces/enforcement", timeout=60).json()["enforced"] is True
        server.run(sampling())
        with pytest.raises(WorkflowError, match="draws people without protection"):
            server.run(sampling(train={"class_type": "TrainAnonymizationPrefix", "inputs": {"clip": ["demo", 1]}}))


def test_a_setting_that_only_the_second_copy_has_refuses_every_prompt(tmp_path):
    second = copy_of_the_extension(tmp_path / "custom_nodes" / "zz-copy-of-faces")
    (second / "enforce.ini").write_text("[enforcement]\nprefix = studio.safetensors\n")
    with server_with(tmp_path) as server, pytest.raises(WorkflowError, match="two copies of Anonymize Faces"):
        server.run(sampling())


def test_a_host_that_makes_its_server_after_its_extensions_is_closed_as_well(host):
    script = """
import asyncio, os, sys
sys.path.insert(0, os.getcwd())
import utils.install_util  # as main.py does, before anything else is called utils
from comfy.cli_args import args
args.cpu = True
import server
import anonymize_faces
gate = anonymize_faces._close()
made = server.PromptServer(asyncio.new_event_loop())
print("ASKED", made.trigger_on_prompt({"prompt": {}})["prompt"]["0"]["class_type"])
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=host, env={**os.environ, **ENFORCE}, capture_output=True, text=True
    )
    assert "ASKED ProtectionRefused" in done.stdout, done.stderr


def test_the_gate_never_raises_and_never_lets_a_prompt_through():
    gate = anonymize_faces.PromptGate()
    for request in ({"prompt": {"1": {}}}, {}, [], None, {"prompt": {}, "partial_execution_targets": ["1"]}):
        for answer in (None, raising(ZeroDivisionError()), raising(KeyboardInterrupt())):
            gate.answer = answer
            answered = gate(request)
            assert [node["class_type"] for node in answered["prompt"].values()] == ["ProtectionRefused"]
            assert "partial_execution_targets" not in answered


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"[enforcement]\nprefix = none.safetensors", "no prefix file"),
        (b"[enforcement]\nprefix = p.safetensors\nembeddings = perhaps", "neither refuse nor allow"),
        (b"[enforcement]\nprefix = p.safetensors\nembedings = refuse", "which nobody knows"),
        (b"[enforcement]\nprefix = p.safetensors\n[more]\n", "or more than that"),
        (b"[DEFAULT]\nprefix = p.safetensors\n[enforcement]\n", "or more than that"),
        ("[enforcement]\nprefix = p.safetensors".encode("utf-16"), "cannot be read"),
        (b"[enforcement]\nprefix = p.safetensors\nprefix = q.safetensors", "cannot be read"),
        (b"[enforcement]\nprefix = ../p.safetensors", "cannot name a prefix file"),
        (b"[enforcement]\nprefix =", "names no prefix"),
        (None, "cannot be read"),
    ],
)
def test_a_file_that_is_wrong_is_a_fault(tmp_path, content, reason):
    save_prefix(demo_prefix(), tmp_path / "p.safetensors")
    file = tmp_path / "enforce.ini"
    if content is None:
        file.mkdir()
    else:
        file.write_bytes(content)
    found = read_enforcement({}, file, [tmp_path])
    assert found is not None and found.prefix is None and reason in found.fault
    assert "must anonymize every prompt and cannot" in found.fault


def test_a_file_is_found_whatever_an_editor_or_windows_makes_of_its_name(tmp_path):
    save_prefix(demo_prefix(), tmp_path / "p.safetensors")
    file = tmp_path / "enforce.ini"
    for name in ("Enforce.ini", "enforce.ini.txt", "ENFORCE.INI.TXT"):
        (tmp_path / name).write_bytes(b"\xef\xbb\xbf[enforcement]\r\nprefix = p.safetensors\r\nembeddings = Allow\r\n")
        found = read_enforcement({}, file, [tmp_path])
        assert found.fault is None and found.prefix.length == 10 and found.embeddings == ANY_EMBEDDINGS
        (tmp_path / name).unlink()
    for name in ("enforce.ini", "enforce.ini.txt"):
        (tmp_path / name).write_text("[enforcement]\nprefix = p.safetensors\n")
    assert "two settings" in read_enforcement({}, file, [tmp_path]).fault


def test_whatever_is_raised_while_the_setting_is_read_is_a_fault(tmp_path, monkeypatch):
    save_prefix(demo_prefix(), tmp_path / "studio.safetensors")
    for error in (OverflowError("int too large to convert to float"), RecursionError(), MemoryError(), KeyError("x")):
        monkeypatch.setattr(enforced_setting, "load_prefix", raising(error))
        found = read_enforcement(ENFORCE, tmp_path / "enforce.ini", [tmp_path])
        assert found.prefix is None and "must anonymize every prompt and cannot" in found.fault
    monkeypatch.setattr(enforced_setting.os, "listdir", raising(PermissionError(13, "denied")))
    assert "denied" in read_enforcement({}, tmp_path / "enforce.ini", [tmp_path]).fault


def test_settings_of_variables_go_together(tmp_path):
    save_prefix(demo_prefix(), tmp_path / "studio.safetensors")
    file = tmp_path / "enforce.ini"
    for alone in ({"ANONYMIZE_FACES_TRUST": "A"}, {"ANONYMIZE_FACES_EMBEDDINGS": "refuse"}):
        assert "go with ANONYMIZE_FACES_ENFORCE" in read_enforcement(alone, file, [tmp_path]).fault
    assert read_enforcement(ENFORCE, file, [tmp_path]).embeddings == NO_EMBEDDINGS
    found = read_enforcement(ENFORCE | {"ANONYMIZE_FACES_EMBEDDINGS": "allow"}, file, [tmp_path])
    assert found.embeddings == ANY_EMBEDDINGS and found.fault is None


def test_embeddings_are_listed_by_their_files_in_whichever_folder_and_form_they_lie(tmp_path):
    save_prefix(demo_prefix(), tmp_path / "studio.safetensors")
    folders, file = [tmp_path / "one", tmp_path / "two"], tmp_path / "enforce.ini"
    for folder in folders:
        (folder / "styles").mkdir(parents=True)
    ink, wash, other = (torch.full((2, 8), value) for value in (0.25, 0.5, 0.75))
    save_file({"emb_params": ink.half()}, folders[1] / "styles" / "ink v1.2.safetensors")
    torch.save({"string_to_param": {"*": wash}}, folders[0] / "wash.pt")
    for listed in ("styles/ink v1.2.safetensors, wash", "\n    styles\\ink v1.2\n    wash.pt"):
        file.write_text(f"[enforcement]\nprefix = studio.safetensors\nembeddings = {listed}\n")
        found = read_enforcement({}, file, [tmp_path], folders)
        assert found.fault is None and [found.embeddings.allow(rows) for rows in (ink, wash[0], other)] == [1, 1, 0]
        assert not found.embeddings.allow(torch.cat([ink, other]))
    (folders[0] / "broken.bin").write_bytes(b"nothing")
    for listed, fault in (("ink", "neither refuse nor allow nor a file"), ("broken", "'broken' cannot be read")):
        found = read_enforcement(ENFORCE | {"ANONYMIZE_FACES_EMBEDDINGS": f"wash, {listed}"}, file, [tmp_path], folders)
        assert found.prefix is None and fault in found.fault


def test_the_entry_point_knows_every_way_to_set_it(monkeypatch, tmp_path):
    monkeypatch.setattr(anonymize_faces, "__file__", str(tmp_path / "__init__.py"))
    for name in anonymize_faces.SETTING_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    assert not anonymize_faces.may_enforce()
    assert (EXTENSION / anonymize_faces.SETTING_FILES[0]) == enforced_setting.FILE
    monkeypatch.setenv(enforced_setting.VARIABLE, "")
    assert anonymize_faces.may_enforce()
    monkeypatch.delenv(enforced_setting.VARIABLE)
    (tmp_path / "Enforce.ini.txt").mkdir()
    assert anonymize_faces.may_enforce()
    monkeypatch.setattr(anonymize_faces, "__file__", str(tmp_path / "gone" / "__init__.py"))
    assert anonymize_faces.may_enforce()
