"""Starts a real ComfyUI, posts workflows to it and reads what came of them.

with ComfyServer() as server:
    entry = server.wait(server.queue({"1": {"class_type": "EmptyImage", "inputs": {…}}, …}))
    picture = server.image(entry["outputs"]["2"]["images"][0])
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
import websocket

from .layout import host_folder
from .silence import Silence

Graph = Mapping[str, Mapping[str, Any]]
"""A prompt as the API takes it: `{node id: {"class_type": …, "inputs": {…}}}`."""

MODEL_KINDS = (
    "anonymization_prefixes",
    "checkpoints",
    "embeddings",
    "facenet",
    "loras",
    "prompt_experts",
    "zero_shot_clip",
)
LOG_TAIL_LINES = 40
POLL_SECONDS = 1.0
REQUEST_SECONDS = 60.0
SILENCE_SECONDS = 600.0
"""For which a server may say nothing of a workflow before nobody waits for it any more."""


SIGNS_OF_LIFE = frozenset(
    "status progress progress_state executing executed execution_start execution_cached execution_success"
    " execution_error execution_interrupted".split()
)
"""Messages that tell that the server works; other extensions send some at all times."""


class ServerError(Exception):
    """The server is not there, did not start, or died; the message ends with the last lines of its log.

    Attributes:
        sentence: the message without the log.
    """

    def __init__(self, sentence: str, log: str = "") -> None:
        super().__init__(f"{sentence} {log}".rstrip())
        self.sentence = sentence


class ServerSilentError(ServerError, TimeoutError):
    """The server runs, and nothing has been heard of it for too long."""


class WorkflowError(Exception):
    """The server refused a workflow, or a node raised.

    Attributes:
        node_id: the node at fault, None if the workflow as a whole is.
        node_type: its class, None likewise.
        exception_message: what the node, or the server, says.
        details: the server's full answer.
    """

    def __init__(self, node_id: str | None, node_type: str | None, exception_message: str, details: Any) -> None:
        where = f"node {node_id} ({node_type}): " if node_id is not None else ""
        super().__init__(f"{where}{exception_message}")
        self.node_id = node_id
        self.node_type = node_type
        self.exception_message = exception_message
        self.details = details


class WorkflowInterruptedError(WorkflowError):
    """Somebody cancelled the workflow; `node_id` is the node that was running."""


@dataclass(frozen=True)
class ServerProgress:
    """How far the bar on a node is."""

    node_id: str
    value: float
    maximum: float


class ComfyServer:
    """A ComfyUI process of its own, on a free port of this machine, and a client of it.

    What it writes and the prefix files it sees lie under `workspace`: input/, output/, temp/, user/,
    models/anonymization_prefixes/ and server.log. Custom nodes are the host's, and so are models, to which those in
    models/checkpoints/, models/loras/, models/embeddings/, models/facenet/ and models/zero_shot_clip/ of the workspace
    are added.

    Args:
        workspace: an existing or new folder; a temporary one that goes away with the server if None.
        host: the ComfyUI to start; the one of `layout.host_folder` if None.
        python: the Python that runs it; this one if None.
        port: a free one if None.
        cpu: run on the CPU even where there is a GPU.
        arguments: more command line arguments for the server.
        environment: variables added to this process's own.
        report: called with a line now and then while the server starts.
        start_seconds: how long the server may print nothing while it starts.
        poll_seconds: how often to ask whether it has started.
    """

    def __init__(
        self,
        workspace: Path | None = None,
        *,
        host: Path | None = None,
        python: Path | None = None,
        port: int | None = None,
        cpu: bool = True,
        arguments: Iterable[str] = (),
        environment: Mapping[str, str] | None = None,
        report: Callable[[str], None] | None = None,
        start_seconds: float = 300.0,
        poll_seconds: float = 0.2,
    ) -> None:
        self._temporary = tempfile.TemporaryDirectory(prefix="comfy-server-") if workspace is None else None
        self.workspace = Path(workspace if self._temporary is None else self._temporary.name).resolve()
        self.host = host or host_folder()
        self.port = port or _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.client_id = uuid.uuid4().hex
        self._python = python or Path(sys.executable)
        self._cpu = cpu
        self._arguments = tuple(arguments)
        self._environment = dict(environment or {})
        self._report = report or (lambda line: None)
        self._start_seconds = start_seconds
        self._poll_seconds = poll_seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: websocket.WebSocket | None = None

    @property
    def prefix_folder(self) -> Path:
        """Where this server looks first for prefix files, and saves them."""
        return self.model_folder("anonymization_prefixes")

    def model_folder(self, kind: str) -> Path:
        """Where this server looks first for models of a kind: one of `MODEL_KINDS`."""
        return self.workspace / "models" / kind

    @property
    def embedding_folder(self) -> Path:
        """Where this server looks first for embeddings, and saves textual inversions."""
        return self.model_folder("embeddings")

    @property
    def log_path(self) -> Path:
        """The file with everything the process printed."""
        return self.workspace / "server.log"

    def log(self) -> str:
        """Everything the process printed so far."""
        return self.log_path.read_text(encoding="utf-8", errors="replace") if self.log_path.exists() else ""

    def __enter__(self) -> ComfyServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Starts the process and returns once it answers.

        Raises:
            ServerError: there is no host, the port is taken, it died, or it did not answer in time.
        """
        if not (self.host / "main.py").is_file():
            raise ServerError(f"There is no ComfyUI in {self.host}: run 'make setup' first.")
        if not is_free(self.port):
            raise ServerError(f"Something else listens on port {self.port}: end it, or choose another port.")
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", **self._environment}
        with self._prepare().open("wb") as log:
            self._process = subprocess.Popen(
                self._command(), cwd=self.host, env=environment, stdout=log, stderr=subprocess.STDOUT
            )
        try:
            self._wait_until_ready()
            self._connect()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Ends the process; harmless if it has ended."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
        if self._temporary is not None:
            self._temporary.cleanup()

    @property
    def pid(self) -> int:
        """The process's id."""
        self._check_alive()
        return self._process.pid

    def kill(self) -> None:
        """Ends the process as a crash would, at once and without warning; `start` starts another one."""
        if self._process is not None:
            self._process.kill()
        self.stop()

    def object_info(self) -> dict[str, Any]:
        """Every node the server knows, with its inputs and outputs."""
        return self._get("/object_info").json()

    def queue(self, graph: Graph, extra: Mapping[str, Any] | None = None) -> str:
        """Posts a workflow and returns its prompt id, for `wait`.

        Args:
            graph: the workflow in the API's format.
            extra: extra data, such as `{"extra_pnginfo": {"workflow": …}}`.

        Raises:
            WorkflowError: the server refused it, whole or in part; nothing of it runs then.
        """
        body = {"prompt": graph, "client_id": self.client_id, "extra_data": dict(extra or {})}
        response = self._request("POST", "/prompt", json=body)
        if response.status_code not in (200, 400):
            response.raise_for_status()
        answer = response.json()
        if response.status_code == 400 or answer["node_errors"]:
            if "prompt_id" in answer:
                self._post("/queue", {"delete": [answer["prompt_id"]]})
                self.interrupt(answer["prompt_id"])
            raise _refusal(answer)
        return answer["prompt_id"]

    def wait(
        self,
        prompt_id: str,
        timeout: float = SILENCE_SECONDS,
        on_progress: Callable[[ServerProgress], None] | None = None,
    ) -> dict[str, Any]:
        """Waits until a workflow is done and returns its history entry: `outputs` by node id, `status`, `prompt`.

        Progress comes over the websocket, the result from the history, so workflows may be waited for in any order.

        Raises:
            WorkflowError: a node raised.
            WorkflowInterruptedError: it was cancelled.
            ServerSilentError: nothing was heard of the server for `timeout` seconds; the workflow goes on running.
            ServerError: the process died.
        """
        silence = Silence(timeout, self.log_path)
        heard_the_end = False
        while (entry := self._history(prompt_id)) is None:
            if silence.too_long():
                raise ServerSilentError(
                    f"Workflow {prompt_id} was not done after {timeout:.0f} s in which nothing was heard of ComfyUI.",
                    self._log_tail(),
                )
            heard_the_end = self._listen(prompt_id, on_progress, silence)
        if on_progress is not None and not heard_the_end:
            self._listen(prompt_id, on_progress)  # The history may know of the end before the last progress is read.
        for kind, data in entry["status"]["messages"]:
            if kind == "execution_error":
                raise WorkflowError(data["node_id"], data["node_type"], data["exception_message"].strip(), data)
            if kind == "execution_interrupted":
                raise WorkflowInterruptedError(data["node_id"], data["node_type"], "the workflow was cancelled", data)
        return entry

    def run(self, graph: Graph, timeout: float = SILENCE_SECONDS) -> dict[str, Any]:
        """Posts a workflow and waits for it, see there for `timeout`; raises what `queue` and `wait` raise."""
        return self.wait(self.queue(graph), timeout)

    def interrupt(self, prompt_id: str | None = None) -> None:
        """Cancels that workflow if it is running, or whichever is."""
        self._post("/interrupt", {"prompt_id": prompt_id} if prompt_id else {})

    def image(self, reference: Mapping[str, str]) -> bytes:
        """The file behind an image in `outputs`, `{"filename", "subfolder", "type"}`."""
        return self._get("/view", params=dict(reference)).content

    def _prepare(self) -> Path:
        for folder in ("input", "output", "temp", "user"):
            (self.workspace / folder).mkdir(parents=True, exist_ok=True)
        own: dict[str, Any] = {"is_default": True}
        for kind in MODEL_KINDS:
            self.model_folder(kind).mkdir(parents=True, exist_ok=True)
            own[kind] = str(self.model_folder(kind))
        (self.workspace / "model_paths.yaml").write_text(json.dumps({"workspace": own}), encoding="utf-8")
        return self.log_path

    def _command(self) -> list[str]:
        command = [str(self._python), str(self.host / "main.py"), "--port", str(self.port), "--disable-auto-launch"]
        for kind in ("input", "output", "temp", "user"):
            command += [f"--{kind}-directory", str(self.workspace / kind)]
        command += ["--extra-model-paths-config", str(self.workspace / "model_paths.yaml")]
        command += ["--database-url", "sqlite:///:memory:"]
        return [*command, *(["--cpu"] if self._cpu else []), *self._arguments]

    def _wait_until_ready(self) -> None:
        began = said = time.monotonic()
        silence = Silence(self._start_seconds, self.log_path)
        while True:
            try:
                requests.get(f"{self.url}/system_stats", timeout=5).raise_for_status()
                break
            except requests.RequestException:
                self._check_alive()
            now = time.monotonic()
            if silence.too_long():
                raise ServerSilentError(
                    f"ComfyUI does not answer, and has printed nothing for {self._start_seconds:.0f} s.",
                    self._log_tail(),
                )
            if now - said > 5:
                said = now
                self._report(f"ComfyUI is starting … {now - began:.0f} s")
            time.sleep(self._poll_seconds)
        self._check_alive()
        self._report(f"ComfyUI answers at {self.url}")

    def _check_alive(self) -> None:
        if self._process is None:
            raise ServerError("The server is not running: start it first.")
        if self._process.poll() is not None:
            code = self._process.returncode
            how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
            raise ServerError(f"ComfyUI {how}.", self._log_tail())

    def _log_tail(self) -> str:
        return "The end of its log:\n" + "\n".join(self.log().splitlines()[-LOG_TAIL_LINES:])

    def _connect(self) -> None:
        address = f"ws://127.0.0.1:{self.port}/ws?clientId={self.client_id}"
        try:
            self._socket = websocket.create_connection(address, timeout=REQUEST_SECONDS)
        except (websocket.WebSocketException, OSError) as error:
            self._check_alive()
            raise ServerSilentError(f"ComfyUI opens no websocket ({error}).", self._log_tail()) from error

    def _listen(
        self, prompt_id: str, on_progress: Callable[[ServerProgress], None] | None, silence: Silence | None = None
    ) -> bool:
        """Reads messages until one says that the workflow ended, or for a moment; whether one did."""
        until = time.monotonic() + POLL_SECONDS
        while (left := until - time.monotonic()) > 0:
            try:
                self._socket.settimeout(left)
                message = self._socket.recv()
            except websocket.WebSocketTimeoutException:
                return False
            except (websocket.WebSocketException, OSError):
                self._check_alive()
                self._reconnect()
                return False
            event = {} if isinstance(message, bytes) else json.loads(message)
            if silence is not None and (isinstance(message, bytes) or event.get("type") in SIGNS_OF_LIFE):
                silence.heard()
            if isinstance(message, bytes):
                continue
            data = event.get("data") or {}
            if data.get("prompt_id") != prompt_id:
                continue
            if event["type"] == "progress" and on_progress is not None:
                on_progress(ServerProgress(data["node"], data["value"], data["max"]))
            if event["type"] == "executing" and data["node"] is None:
                return True
        return False

    def _reconnect(self) -> None:
        """Connects anew, or leaves that to the next time: a server that is busy may still be alive."""
        try:
            self._connect()
        except ServerSilentError:
            time.sleep(POLL_SECONDS)

    def _history(self, prompt_id: str) -> dict[str, Any] | None:
        """The entry; None if there is none yet, or the server has no time to tell."""
        try:
            return self._get(f"/history/{prompt_id}").json().get(prompt_id)
        except ServerSilentError:
            return None

    def _get(self, path: str, **options: Any) -> requests.Response:
        response = self._request("GET", path, **options)
        response.raise_for_status()
        return response

    def _post(self, path: str, body: Mapping[str, Any]) -> None:
        self._request("POST", path, json=body).raise_for_status()

    def _request(self, method: str, path: str, **options: Any) -> requests.Response:
        try:
            return requests.request(method, self.url + path, timeout=REQUEST_SECONDS, **options)
        except requests.RequestException as error:
            self._check_after(error)
            raise ServerSilentError(
                f"ComfyUI does not answer ({type(error).__name__} at {path}).", self._log_tail()
            ) from error

    def _check_after(self, error: requests.RequestException) -> None:
        """`_check_alive`; who closes its connections is about to end, and gets a moment for it."""
        until = time.monotonic() + (2.0 if isinstance(error, requests.ConnectionError) else 0.0)
        self._check_alive()
        while time.monotonic() < until:
            time.sleep(0.1)
            self._check_alive()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def is_free(port: int) -> bool:
    """Whether nothing on this machine listens on the port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def _refusal(answer: Mapping[str, Any]) -> WorkflowError:
    """The first node error of an answer to POST /prompt, or its general error if no node is at fault."""
    for node_id, fault in answer["node_errors"].items() if isinstance(answer["node_errors"], dict) else ():
        reasons = "; ".join(f"{reason['message']}: {reason['details']}" for reason in fault["errors"])
        return WorkflowError(node_id, fault["class_type"], reasons, answer)
    error = answer["error"]
    return WorkflowError(None, None, f"{error['message']} {error['details']}".strip(), answer)
