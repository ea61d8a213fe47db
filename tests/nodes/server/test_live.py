"""A run that is followed over the routes and the websocket of a real ComfyUI."""

from __future__ import annotations

import io
import json
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import websocket
from PIL import Image

from anonymize_faces.tests.support.training_workflow import training
from anonymize_faces.tools.comfy_server import ComfyServer, WorkflowInterruptedError

pytestmark = pytest.mark.usefixtures("tidy")
TRAINING = "/anonymize_faces/training"
EVENT = "anonymize_faces.training"


class Watcher:
    """A page of a browser, as far as the server can tell."""

    def __init__(self, server: ComfyServer) -> None:
        self.server = server
        self.id = uuid.uuid4().hex
        self.events: list[tuple[float, dict[str, Any]]] = []
        self._socket = websocket.create_connection(f"ws://127.0.0.1:{server.port}/ws?clientId={self.id}", timeout=60)

    def post(self, what: str) -> dict[str, Any]:
        answer = requests.post(f"{self.server.url}{TRAINING}/{what}", json={"client_id": self.id}, timeout=60)
        answer.raise_for_status()
        return answer.json()

    def listen(self, seconds: float = 1.0) -> None:
        """Takes in what comes within the time, and what has come."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self._socket.settimeout(left)
            try:
                message = self._socket.recv()
            except websocket.WebSocketTimeoutException:
                return
            if isinstance(message, str) and (event := json.loads(message))["type"] == EVENT:
                self.events.append((time.monotonic(), event["data"]))

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def watcher(server: ComfyServer) -> Iterator[Watcher]:
    opened = Watcher(server)
    yield opened
    opened.close()


def look(server: ComfyServer) -> dict[str, Any]:
    return requests.get(server.url + TRAINING, timeout=60).json()["run"]


def test_who_watches_sees_the_run_and_who_does_not_is_sent_nothing(server: ComfyServer, watcher: Watcher) -> None:
    idle = Watcher(server)
    began = time.monotonic()
    watcher.post("watch")
    graph = training(name="watched", steps=30, seed=71)
    prompt_id = server.queue(graph, {"extra_pnginfo": {"workflow": {"id": "of-the-browser"}}})
    while server._history(prompt_id) is None:
        watcher.post("watch")
        watcher.listen()
    server.wait(prompt_id)
    until = time.monotonic() + 60
    while not watcher.events or watcher.events[-1][1]["run"]["state"] != "finished":
        assert time.monotonic() < until, "the end was not told"
        watcher.post("watch")
        watcher.listen()
    idle.listen()
    idle.close()

    runs = [event["run"] for _, event in watcher.events]
    assert idle.events == []
    assert {run["prompt_id"] for run in runs} == {prompt_id}
    assert {(run["node_id"], run["workflow_id"]) for run in runs} == {("train", "of-the-browser")}
    assert runs[-1]["state"] == "finished" and runs[-1]["done"] == runs[-1]["of"] == 30
    assert len(runs[-1]["curve"]["steps"]) == 30 and all(loss > 0 for loss in runs[-1]["curve"]["identities"])
    assert runs[-1]["score"]["identity_signal_left"] > 0
    assert runs[-1]["picture"]["people"] == ["Ada Example", "Ben Sample"] and not runs[-1]["picture"]["held_out"]
    assert len(watcher.events) <= 4 * (watcher.events[-1][0] - began) + 1
    assert look(server) == runs[-1]


def test_the_pictures_are_two_rows_of_people(server: ComfyServer) -> None:
    server.run(training(name="pictured", seed=72))
    answer = requests.get(f"{server.url}{TRAINING}/picture", timeout=60)
    assert answer.headers["Content-Type"] == "image/jpeg" and answer.headers["Cache-Control"] == "no-store"
    assert Image.open(io.BytesIO(answer.content)).size == (2 * 64, 2 * 64)


def test_a_run_that_is_cancelled_says_so(server: ComfyServer) -> None:
    prompt_id = server.queue(training(name="broken_off", steps=100_000, seed=73, patience=0))
    with pytest.raises(WorkflowInterruptedError):
        server.wait(prompt_id, on_progress=lambda progress: server.interrupt())
    assert look(server)["state"] == "cancelled"


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ({"data": '{"client_id": "a"}'}, 415),
        ({"data": "{", "headers": {"Content-Type": "application/json"}}, 400),
        ({"json": []}, 400),
        ({"json": {"client_id": 5}}, 400),
        ({"json": {"client_id": "x" * 129}}, 400),
        ({"json": {"client_id": ""}}, 400),
        ({"json": {"client_id": "x" * 70_000}}, 413),
    ],
)
@pytest.mark.parametrize("what", ["watch", "leave"])
def test_a_request_that_is_not_sound_is_refused_with_the_reason(
    server: ComfyServer, what: str, options: dict[str, Any], status: int
) -> None:
    answer = requests.post(f"{server.url}{TRAINING}/{what}", timeout=60, **options)
    assert answer.status_code == status and answer.json()["error"].endswith(".")
