"""The server's routes answer odd requests, and reach no file that is none of theirs."""

from __future__ import annotations

import functools
import hashlib
import io
import json
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from anonymize_faces.nodes.enforcement.own_encoders import own_encoders
from anonymize_faces.nodes.enforcement.rewriting import FOREIGN, HOST, SERVICE, Kind
from anonymize_faces.prefix import Prefix, PrefixRecord, load_prefix, save_prefix
from anonymize_faces.prefix.files.prefix_file import prefix_bytes
from anonymize_faces.prefix.files.storage import MAX_FILE_BYTES
from anonymize_faces.tools.comfy_server import ComfyServer, WorkflowError

OWN = "safetensors"
JSON = "application/json"
BYTES = "application/octet-stream"
PREFIX = Prefix({"l": torch.ones(2, 4)}, PrefixRecord(family="sd1", fingerprint="", name="mine"))
SOUND = prefix_bytes(PREFIX)
READS = ("prefixes", "prefixes/details", "prefixes/export")
CHANGES = ("prefixes/rename", "prefixes/delete", "stop")
SECRET = "secret.safetensors"
REQUESTS = 300
LARGE = 1 << 20


class Client:
    """Speaks to the routes of a server."""

    def __init__(self, server: ComfyServer) -> None:
        self._server = server

    def get(self, path: str, **query: str) -> requests.Response:
        return self.send("GET", path, params=query)

    def post(self, path: str, **body: Any) -> requests.Response:
        return self.send("POST", path, json=body)

    def bring(self, name: str, data: Any = SOUND, content_type: str = BYTES, **more: Any) -> requests.Response:
        headers = {"Content-Type": content_type, **more.pop("headers", {})}
        return self.send("POST", "prefixes/import", params={"name": name}, data=data, headers=headers, **more)

    def send(self, method: str, path: str, **options: Any) -> requests.Response:
        # A connection for each: the host ends those whose request it did not read to its end.
        return requests.request(method, f"{self._server.url}/anonymize_faces/{path}", timeout=120, **options)

    def names(self) -> set[str]:
        return {entry["name"] for entry in self.get("prefixes").json()["prefixes"]}


@pytest.fixture
def client(server: ComfyServer) -> Iterator[Client]:
    """A client of a server without prefix files, with a file beside their folder that is nobody's business."""
    secret = server.prefix_folder.parent / SECRET
    secret.write_bytes(SOUND)
    _empty(server.prefix_folder)
    yield Client(server)
    secret.unlink()
    _empty(server.prefix_folder)


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def outside(server: ComfyServer) -> dict[str, tuple[int, str]]:
    """Size and digest of every file of the workspace outside the prefix folder, but for the server's log.

    Of large files, such as checkpoints, the time of the last change stands for the digest.
    """
    files = (path for path in server.workspace.rglob("*") if path.is_file() and path != server.log_path)
    found = {}
    for path in files:
        if not path.is_relative_to(server.prefix_folder):
            size, changed = path.stat().st_size, path.stat().st_mtime_ns
            digest = str(changed) if size > LARGE else hashlib.sha256(path.read_bytes()).hexdigest()
            found[str(path)] = (size, digest)
    return found


def test_a_file_is_brought_listed_renamed_handed_out_and_removed(server, client):
    brought = client.bring("studio/night.safetensors")
    assert brought.status_code == 200 and brought.json()["name"] == "studio/night.safetensors"
    assert client.names() == {"studio/night.safetensors"}
    (listed,) = client.get("prefixes", family="sdxl").json()["prefixes"]
    assert (listed["vectors"], listed["family"], listed["fits"], listed["fault"]) == (2, "SD1", False, None)
    assert client.get("prefixes/details", name=listed["name"]).json()["record"]["name"] == "mine"

    renamed = client.post("prefixes/rename", name="studio/night.safetensors", to="dusk")
    assert renamed.json()["name"] == "dusk.safetensors" and client.names() == {"dusk.safetensors"}
    handed_out = client.get("prefixes/export", name="dusk.safetensors")
    assert handed_out.content == SOUND and handed_out.headers["Content-Type"] == BYTES
    assert handed_out.headers["Content-Disposition"] == "attachment; filename*=UTF-8''dusk.safetensors"
    assert load_prefix(server.prefix_folder / "dusk.safetensors").record.name == "mine"

    assert client.post("prefixes/delete", name="dusk.safetensors").json() == {"deleted": "dusk.safetensors"}
    assert client.names() == set()


def test_a_textual_inversion_is_taken_in_as_our_own_format(client):
    torch.save({"string_to_param": {"*": torch.ones(4, 768)}}, buffer := io.BytesIO())
    brought = client.bring("alz.pt", buffer.getvalue()).json()
    assert brought["name"] == "alz.safetensors" and "Imported from" in brought["record"]["notes"]


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("prefixes/rename", {"name": "one.safetensors", "to": "two"}, 409),
        ("prefixes/rename", {"name": "one.safetensors", "to": "../one"}, 400),
        ("prefixes/rename", {"name": "one.safetensors"}, 400),
        ("prefixes/rename", {"name": "none.safetensors", "to": "two"}, 404),
        ("prefixes/delete", {"name": f"../{SECRET}"}, 400),
        ("prefixes/delete", {"name": "none.safetensors"}, 404),
        ("prefixes/delete", {"name": ["one.safetensors"]}, 400),
        ("prefixes/delete", {"name": "one.safetensors", "long": "x" * 2**16}, 413),
        ("stop", {}, 409),
    ],
)
def test_what_is_not_asked_for_rightly_is_refused_with_a_sentence(server, client, path, body, status):
    for name in ("one", "two"):
        save_prefix(PREFIX, server.prefix_folder / f"{name}.safetensors")
    answer = client.post(path, **body)
    assert answer.status_code == status and answer.json()["error"].endswith(".")
    assert client.names() == {"one.safetensors", "two.safetensors"}


@pytest.mark.parametrize("content_type", ["text/plain", "multipart/form-data", "application/x-www-form-urlencoded", ""])
def test_what_a_page_of_another_site_could_send_unasked_is_refused(server, client, content_type):
    save_prefix(PREFIX, server.prefix_folder / "one.safetensors")
    headers = {"Content-Type": content_type}
    deleting = client.send("POST", "prefixes/delete", data=json.dumps({"name": "one.safetensors"}), headers=headers)
    assert deleting.status_code == client.bring("two.safetensors", content_type=content_type).status_code == 415
    assert client.names() == {"one.safetensors"}


def test_a_page_of_another_site_is_refused_by_the_host(server, client):
    save_prefix(PREFIX, server.prefix_folder / "one.safetensors")
    headers = {"Origin": "http://elsewhere.example"}
    assert client.send("POST", "prefixes/delete", json={"name": "one.safetensors"}, headers=headers).status_code == 403
    assert client.send("GET", "prefixes/export", params={"name": "one.safetensors"}, headers=headers).status_code == 403
    assert client.bring("two.safetensors", headers=headers).status_code == 403
    assert client.names() == {"one.safetensors"}


def test_what_is_too_large_damaged_or_not_what_its_headers_say_is_not_written(server, client):
    too_large = (b"\0" * 2**20 for _ in range((MAX_FILE_BYTES >> 20) + 1))
    assert client.bring("large.safetensors", too_large).status_code == 413
    assert client.bring("cut.safetensors", SOUND[:-1]).status_code == 422
    assert client.bring("other.ckpt").status_code == 422
    assert client.bring("packed.safetensors", headers={"Content-Encoding": "gzip"}).status_code == 400
    assert list(server.prefix_folder.rglob("*")) == []


@functools.cache
def texts() -> st.SearchStrategy[str]:
    """Names: of files that are there, that lead elsewhere, and any text at all."""
    parts = st.sampled_from(["a", "b", "..", ".", "", "con", ".hidden", "~", "C:", "nul", "%2e%2e", "é", "x" * 201])
    paths = st.builds(
        lambda parts, slash, suffix: slash.join(parts) + suffix,
        st.lists(parts, min_size=1, max_size=5),
        st.sampled_from("/\\"),
        st.sampled_from(["", ".safetensors", ".pt", ".bin", ".txt", ".SAFETENSORS"]),
    )
    known = st.sampled_from(["a.safetensors", "b.safetensors", "a/b.safetensors", "b/a.pt", f"../{SECRET}", SECRET])
    anything = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
    return st.one_of(known, known, paths, anything)


@functools.cache
def values() -> st.SearchStrategy[Any]:
    scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False))
    deep = st.recursive(st.one_of(scalars, texts()), lambda inner: st.lists(inner, max_size=3), max_leaves=5)
    table = st.fixed_dictionaries({}, optional={"name": texts(), "to": texts(), "prompt_id": texts(), "more": deep})
    return st.one_of(table, table, table, st.fixed_dictionaries({"name": deep, "to": deep}), deep)


@st.composite
def calls(draw: st.DrawFn) -> dict[str, Any]:
    """Any request that one of the routes may get, sound ones often enough to change files."""
    query = draw(st.dictionaries(st.sampled_from(["name", "family", "other"]), texts(), max_size=3))
    damage = st.one_of(st.just(SOUND), st.just(SOUND), st.binary(max_size=200), st.just(SOUND[:-1]))
    kind = draw(st.sampled_from(["read", "bring", "change", "odd"]))
    if kind == "read":
        return {"method": "GET", "path": draw(st.sampled_from(READS)), "params": query}
    if kind == "bring":
        params, headers = query | {"name": draw(texts())}, {"Content-Type": BYTES}
        return {"method": "POST", "path": "prefixes/import", "params": params, "data": draw(damage), "headers": headers}
    if kind == "change":
        return {"method": "POST", "path": draw(st.sampled_from(CHANGES)), "json": draw(values())}
    method = draw(st.sampled_from(["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"]))
    path = draw(st.sampled_from([*READS, *CHANGES, "prefixes/import", "", "prefixes//details", "prefixes/x"]))
    types = [JSON, BYTES, "text/plain", "application/json; charset=no-such", "multipart/form-data", "\xff/x"]
    headers = {"Content-Type": draw(st.sampled_from(types))}
    headers |= draw(st.sampled_from([{}, {"Content-Encoding": "gzip"}, {"Origin": "x://y"}]))
    body = draw(st.one_of(damage, st.just(b"[" * 50_000), values().map(lambda value: json.dumps(value).encode())))
    return {"method": method, "path": path, "params": query, "data": body, "headers": headers}


def test_no_request_makes_the_server_fail_or_touches_a_file_outside(server, client):
    before = outside(server)
    answers: list[tuple[int, int]] = []

    @settings(max_examples=REQUESTS)
    @given(calls())
    def send(call: dict[str, Any]) -> None:
        try:
            answer = client.send(**call)
        except requests.ConnectionError:  # The host refused the headers and did not wait for the body.
            answers.append((0, 0))
            return
        assert answer.status_code < 500, (call, answer.text)
        is_json = answer.headers.get("Content-Type", "").startswith(JSON)
        if answer.status_code in (409, 413, 415, 422) or (answer.status_code in (400, 404) and is_json):
            assert call["method"] == "HEAD" or answer.json()["error"]
        answers.append((answer.status_code, len(answer.content)))
        assert SOUND not in answer.content or call["path"].endswith("export")

    send()
    assert sum(status != 0 for status, _ in answers) >= 0.9 * REQUESTS
    assert sum(status == 200 for status, _ in answers) > 0.1 * REQUESTS  # Not all of them are refused at the door.
    assert {400, 404, 409, 415, 422} <= {status for status, _ in answers}
    assert outside(server) == before
    for path in server.prefix_folder.rglob("*"):
        assert path.is_dir() or (path.suffix == ".safetensors" and load_prefix(path).length == 2)


def odd_files(folder: Path) -> None:
    """Files that a list of them could stumble over, each in its own way."""
    record = PrefixRecord(family="sd1", fingerprint="").to_json()
    for name, text in {
        "huge": record.replace('"scores": {}', f'"scores": {{"a": {"9" * 400}}}'),
        "deep": record.replace('"settings": {}', f'"settings": {{"a": {"[" * 900 + "]" * 900}}}'),
        "half": record.replace('"name": ""', '"name": "\\ud800"'),
        "long": record.replace('"date": ""', f'"date": "{"2" * 10**6}"'),
    }.items():
        data = safetensors.torch.save({"l": torch.zeros(2, 4)}, metadata={"record": text})
        (folder / f"{name}.safetensors").write_bytes(data)
    for name in ("a: b", "q?mark", " leading", "con", os.fsdecode("光".encode("gbk"))):
        (folder / f"{name}.safetensors").write_bytes(SOUND)
    (folder / "folder.safetensors").mkdir()
    os.mkfifo(folder / "pipe.pt")
    (folder / "loop.pt").symlink_to(folder / "loop.pt")


def test_whatever_one_file_does_the_others_are_listed_and_used(server, client):
    odd_files(server.prefix_folder)
    save_prefix(PREFIX, server.prefix_folder / "sound.safetensors")
    answer = client.get("prefixes")
    assert answer.status_code == 200
    told = {entry["name"]: entry["fault"] for entry in answer.json()["prefixes"]}
    unread = {"huge", "deep", "half", "long"}
    misnamed = {"a: b", "q?mark", " leading", "con", "\ufffd\ufffd"}
    assert set(told) == {f"{name}.safetensors" for name in unread | misnamed | {"sound"}}
    assert told["sound.safetensors"] is None
    assert all("cannot be used as a prefix" in told[f"{name}.safetensors"] for name in unread)
    assert all("Rename it" in told[f"{name}.safetensors"] for name in misnamed)
    info = server.object_info()
    for node in ("AnonymizeFaces", "LoadAnonymizationPrefix", "EvaluateAnonymization", "CompareStrengths"):
        inputs = {**info[node]["input"].get("required", {}), **info[node]["input"].get("optional", {})}
        lists = [set(choice[1]["options"]) for choice in inputs.values() if "options" in choice[1]]
        lists = [options for options in lists if "sound.safetensors" in options]
        offered = set(told) - {f"{name}.safetensors" for name in misnamed}
        assert lists and all(options & set(told) == offered for options in lists)
    for name in (*told, "folder.safetensors", "pipe.pt", "loop.pt"):
        load = {"class_type": "LoadAnonymizationPrefix", "inputs": {"file": name}}
        save = {
            "class_type": "SaveAnonymizationPrefix",
            "inputs": {"prefix": ["load", 0], "name": "sound", "format": OWN},
        }
        if name == "sound.safetensors":
            server.run({"load": load, "save": save})
            continue
        with pytest.raises(WorkflowError, match="Rename it" if name[:-12] in misnamed else "'") as failure:
            server.run({"load": load, "save": save}, timeout=60)
        assert failure.value.node_id == "load"
    for name in sorted(misnamed):
        assert client.post("prefixes/rename", name=f"{name}.safetensors", to="mended").status_code == 200
        assert client.post("prefixes/delete", name="mended.safetensors").status_code == 200
    for name in unread:
        data = (server.prefix_folder / f"{name}.safetensors").read_bytes()
        assert client.bring("new.safetensors", data).status_code == 422
        assert client.post("prefixes/delete", name=f"{name}.safetensors").status_code == 200
    assert client.names() == {"sound.safetensors"}


def test_many_who_change_files_at_once_leave_whole_files_and_get_answers(server, client):
    def work(number: int) -> set[int]:
        mine, answers = Client(server), []
        for turn in range(12):
            name = f"{(number + turn) % 3}.safetensors"
            answers.append(mine.bring(name))
            answers.append(mine.post("prefixes/rename", name=name, to=f"{(number + turn + 1) % 3}"))
            answers.append(mine.get("prefixes"))
            answers.append(mine.post("prefixes/delete", name=name))
        return {answer.status_code for answer in answers}

    with ThreadPoolExecutor(6) as threads:
        statuses = set().union(*threads.map(work, range(6)))
    assert statuses <= {200, 404, 409} and 200 in statuses
    assert client.names() <= {"0.safetensors", "1.safetensors", "2.safetensors"}
    assert all(path.read_bytes() == SOUND for path in server.prefix_folder.rglob("*"))


def test_nodes_that_bring_a_text_encoder_of_their_own_are_named(server):
    told = requests.get(server.url + "/anonymize_faces/own_encoders", timeout=60).json()
    loads = {"LoadTrainingDataset"} & server.object_info().keys()  # Older hosts have no such node.
    assert told["own_encoders"] == {name: [] for name in loads}
    assert told["services"]


def test_a_loader_that_encodes_by_itself_is_told_from_one_that_hands_on_its_text_encoder():
    kinds = {
        "Efficient Loader": Kind(FOREIGN, ("MODEL", "CONDITIONING", "CLIP"), texts=("positive",)),
        "fullLoader": Kind(FOREIGN, ("PIPE_LINE", "MODEL"), sources=("optional_clip",), texts=("positive",)),
        "Draws": Kind(FOREIGN, ("IMAGE",), texts=("text",)),
        "Writes": Kind(FOREIGN, ("STRING",), texts=("text",)),
        "Loader": Kind(FOREIGN, ("MODEL", "CLIP", "VAE")),
        "Encodes": Kind(FOREIGN, ("CONDITIONING",), sources=("clip",), needs_no_source=False, texts=("text",)),
        "Lotus": Kind(HOST, ("CONDITIONING",)),
        "LotusConditioning": Kind(HOST, ("CONDITIONING",)),
        "Kling": Kind(SERVICE, ("VIDEO",), texts=("prompt",)),
    }
    assert own_encoders(kinds) == {
        "own_encoders": {"Draws": [], "Efficient Loader": [], "Lotus": [], "fullLoader": ["optional_clip"]},
        "services": ["Kling"],
    }
