"""What a checkpoint's header tells, in a real ComfyUI."""

from __future__ import annotations

import pytest
import requests

from anonymize_faces.tests.support.checkpoints import FAMILIES, write_hollow_checkpoint
from anonymize_faces.tools.comfy_server import ComfyServer


def family_of(server: ComfyServer, name: str) -> str:
    answer = requests.get(f"{server.url}/anonymize_faces/checkpoints/family", params={"name": name}, timeout=60)
    assert answer.status_code == 200
    return answer.json()["family"]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_family_of_a_checkpoint_is_told_by_its_header(server: ComfyServer, host_modules: None, family: str) -> None:
    write_hollow_checkpoint(server.model_folder("checkpoints") / f"hollow_{family}.safetensors", family)
    assert family_of(server, f"hollow_{family}.safetensors") == family


@pytest.mark.parametrize("data", [b"", b"\xff" * 4096, b"\x02\0\0\0\0\0\0\0[]", b"\x02\0\0\0\0\0\0\0{}"])
def test_of_a_file_that_does_not_tell_nothing_is_said(server: ComfyServer, data: bytes) -> None:
    (server.model_folder("checkpoints") / "odd.safetensors").write_bytes(data)
    assert family_of(server, "odd.safetensors") == ""


@pytest.mark.parametrize("name", ["absent.safetensors", "../../main.py", "odd.ckpt", "/etc/passwd"])
def test_what_is_no_checkpoint_of_the_list_has_no_family(server: ComfyServer, name: str) -> None:
    assert family_of(server, name) == ""
