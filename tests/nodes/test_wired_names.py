"""Replaces and deletes, between two runs on a real server, prefix files whose names come by wires."""

from __future__ import annotations

import os
from typing import Any

import pytest

from anonymize_faces.prefix import save_prefix
from anonymize_faces.tests.support.enforced_workflow import CLIP, TEXT, encoding, node
from anonymize_faces.tests.support.offline_host import OfflineHost
from anonymize_faces.tests.support.prefixes import demo_prefix
from anonymize_faces.tools.comfy_server import WorkflowError


def protecting(**inputs: Any) -> dict[str, Any]:
    return {
        "name": node("PrimitiveString", value="wired.safetensors"),
        "any": node("ForeignSwitch", first=["name", 0]),
        "demo": node("LoadDemoModel"),
        "anonymize": node("AnonymizeFaces", clip=CLIP, strength=1.0, **inputs),
        "encode": encoding(["anonymize", 0], TEXT),
        "show": node("PreviewAny", source=["encode", 0]),
    }


GRAPHS = {
    "AnonymizeFaces": protecting(prefix=["any", 0]),
    "LoadAnonymizationPrefix": protecting(prefix="other.safetensors", learned_prefix=["load", 0])
    | {"load": node("LoadAnonymizationPrefix", file=["any", 0])},
}


@pytest.mark.parametrize("name", GRAPHS)
def test_a_file_whose_name_comes_by_wire_is_read_anew_once_it_changes(offline: OfflineHost, name: str) -> None:
    wired = offline.server  # It enforces nothing, and has nodes of others that put out text under any type.
    file = wired.prefix_folder / "wired.safetensors"

    def shown() -> str:
        (text,) = wired.run(GRAPHS[name])["outputs"]["show"]["text"]
        return text

    save_prefix(demo_prefix(2), file)
    first = shown()
    assert shown() == first
    status = file.stat()
    save_prefix(demo_prefix(3), file, overwrite=True)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert shown() != first
    file.unlink()
    with pytest.raises(WorkflowError, match=r"no prefix file 'wired\.safetensors'"):
        wired.run(GRAPHS[name])


def test_every_node_that_takes_the_name_of_a_file_by_wire_looks_at_the_folder(host_modules, tmp_path, monkeypatch):
    from anonymize_faces.nodes.anonymize import AnonymizeFaces
    from anonymize_faces.nodes.evaluate import EvaluateAnonymization
    from anonymize_faces.nodes.files import LoadAnonymizationPrefix
    from anonymize_faces.nodes.shared import folder

    monkeypatch.setattr(folder, "prefix_folders", lambda: [tmp_path])
    one, two = tmp_path / "one.safetensors", tmp_path / "two.safetensors"
    (tmp_path / "link.pt").symlink_to(tmp_path / "elsewhere")

    def told() -> tuple[str, ...]:
        return (
            AnonymizeFaces.fingerprint_inputs(prefix=None),
            LoadAnonymizationPrefix.fingerprint_inputs(file=None),
            EvaluateAnonymization.fingerprint_inputs(prefix_1=None),
        )

    seen = []
    for change in (
        lambda: None,
        lambda: save_prefix(demo_prefix(2), one),
        lambda: save_prefix(demo_prefix(3), one, overwrite=True),
        lambda: save_prefix(demo_prefix(4), two),
        one.unlink,
        lambda: (tmp_path / "elsewhere").write_bytes(b"what the link leads to"),
    ):
        change()
        seen.append(told())
        assert seen[-1] == told()
    for each in zip(*seen, strict=True):
        assert len(set(each)) == len(each)
