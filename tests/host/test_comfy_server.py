"""The client of a ComfyUI server: starting, waiting, failing."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from anonymize_faces.tests.support.drawing import PLAIN, drawing
from anonymize_faces.tools.comfy_server import (
    ComfyServer,
    ServerError,
    ServerProgress,
    ServerSilentError,
    WorkflowError,
    WorkflowInterruptedError,
)

PNG = b"\x89PNG\r\n\x1a\n"


def picture(width: int = 16, prefix: str = "plain") -> dict:
    empty = {"width": width, "height": 16, "batch_size": 1, "color": 255}
    return {
        "1": {"class_type": "EmptyImage", "inputs": empty},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": prefix}},
    }


def test_a_workflow_comes_back_with_its_pictures(server):
    entry = server.run(picture())
    (reference,) = entry["outputs"]["2"]["images"]
    assert server.image(reference).startswith(PNG)
    assert (server.workspace / "output" / reference["filename"]).is_file()


def test_workflows_can_be_waited_for_in_any_order(server):
    first, second = server.queue(picture(24)), server.queue(picture(32))
    assert server.wait(second)["outputs"]
    assert server.wait(first)["outputs"]


@pytest.mark.parametrize(
    ("graph", "node_id", "words"),
    [
        ({}, None, "no outputs"),
        ({"1": {"class_type": "NoSuchNode", "inputs": {}}}, None, "NoSuchNode.* (does not exist|not found)"),
        (picture(width=-1), "1", "smaller than min"),
    ],
)
def test_a_workflow_that_the_server_refuses_is_told_by_its_node_and_reason(server, graph, node_id, words):
    with pytest.raises(WorkflowError, match=words) as caught:
        server.queue(graph)
    assert caught.value.node_id == node_id


def test_a_workflow_of_which_only_a_part_is_valid_does_not_pass(server):
    broken = {"class_type": "SaveImage", "inputs": {"images": ["1", 0]}}
    with pytest.raises(WorkflowError) as caught:
        server.queue({**picture(), "3": broken})
    assert caught.value.node_id == "3"


def test_a_node_that_raises_is_named_with_its_words(server):
    (server.workspace / "input" / "broken.latent").write_bytes(b"not a latent")
    graph = {
        "3": {"class_type": "LoadLatent", "inputs": {"latent": "broken.latent"}},
        "4": {"class_type": "SaveLatent", "inputs": {"samples": ["3", 0], "filename_prefix": "latent"}},
    }
    with pytest.raises(WorkflowError) as caught:
        server.run(graph)
    assert (caught.value.node_id, caught.value.node_type) == ("3", "LoadLatent")
    assert caught.value.exception_message
    assert not isinstance(caught.value, WorkflowInterruptedError)


def test_a_cancelled_workflow_is_told_from_a_failed_one(server):
    graph = picture()
    graph["1"]["inputs"] |= {"width": 4096, "height": 2048}
    blur = {"image": ["1", 0], "blur_radius": 15, "sigma": 5.0}
    graph |= {"5": {"class_type": "ImageBlur", "inputs": blur}}
    graph["2"]["inputs"]["images"] = ["5", 0]
    prompt_id = server.queue(graph)
    done = threading.Event()

    def cancel() -> None:
        while not done.wait(0.05):
            server.interrupt(prompt_id)

    canceller = threading.Thread(target=cancel)
    canceller.start()
    try:
        with pytest.raises(WorkflowInterruptedError):
            server.wait(prompt_id)
    finally:
        done.set()
        canceller.join()


def test_a_workflow_of_which_nothing_is_heard_is_given_up(server):
    with pytest.raises(TimeoutError, match="not done after 0 s"):
        server.wait("never queued", timeout=0)


def test_a_workflow_that_takes_long_is_waited_for_as_long_as_it_is_heard_of(server):
    server.run(drawing(PLAIN))
    graph = drawing(PLAIN, "a portrait of somebody else")
    graph["sample"]["inputs"]["steps"] = 400
    seen: list[float] = []

    def slowly(progress: ServerProgress) -> None:
        seen.append(time.monotonic())

    entry = server.wait(server.queue(graph), timeout=1.5, on_progress=slowly)
    assert entry["outputs"] and seen[-1] - seen[0] > 1.5


def test_a_server_that_falls_silent_is_told_at_once(server: ComfyServer, monkeypatch):
    graph = drawing(PLAIN, "silence")
    graph["sample"]["inputs"]["steps"] = 10000

    def stop(progress: ServerProgress) -> None:
        if progress.value >= 2:
            os.kill(server.pid, signal.SIGSTOP)

    monkeypatch.setattr("anonymize_faces.tools.comfy_server.REQUEST_SECONDS", 2.0)
    try:
        with pytest.raises(ServerSilentError, match="in which nothing was heard"):
            server.wait(server.queue(graph), timeout=3, on_progress=stop)
    finally:
        monkeypatch.undo()
        os.kill(server.pid, signal.SIGCONT)
        server.interrupt()


def test_a_taken_port_is_said_at_once(server):
    with pytest.raises(ServerError, match="listens on port"):
        ComfyServer(port=server.port).start()


def test_a_server_that_dies_at_its_start_shows_its_log(host, tmp_path):
    with pytest.raises(ServerError, match="unrecognized arguments: --no-such-flag"):
        ComfyServer(tmp_path, arguments=["--no-such-flag"]).start()


def test_a_missing_host_is_said_with_the_remedy(monkeypatch, tmp_path):
    monkeypatch.setenv("COMFYUI_DIR", str(tmp_path))
    with pytest.raises(ServerError, match="make setup"):
        ComfyServer(tmp_path / "work").start()
