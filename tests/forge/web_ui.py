"""Speaks to a real Forge server: its process, and requests to its API."""

from __future__ import annotations

import binascii
import io
import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

START_SECONDS = 600
REQUEST_SECONDS = 600

DRAWN = {"steps": 2, "width": 64, "height": 64, "seed": 7, "sampler_name": "Euler", "cfg_scale": 7}


class WebUi:
    """A running server, spoken to by its API."""

    def __init__(self, port: int, log: Path) -> None:
        self.log = log
        self._url = f"http://127.0.0.1:{port}"

    def get(self, path: str) -> Any:
        """What the server answers, JSON."""
        with urllib.request.urlopen(f"{self._url}{path}", timeout=REQUEST_SECONDS) as answer:
            return json.load(answer)

    def post(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Status and answer."""
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self._url}{path}", json.dumps(body).encode(), headers)
        try:
            with urllib.request.urlopen(request, timeout=REQUEST_SECONDS) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def draw(self, prompt: str, panel: list[Any] | None = None, path: str = "txt2img", **more: Any) -> ForgeDrawing:
        """Draws, with the panel's three values if they are given."""
        scripts = {} if panel is None else {"alwayson_scripts": {"Anonymize Faces": {"args": panel}}}
        status, answer = self.post(f"/sdapi/v1/{path}", {"prompt": prompt, **DRAWN, **scripts, **more})
        return ForgeDrawing(status, answer)


class ForgeDrawing:
    """What a request to draw became: pictures as bytes of pixels, or an error."""

    def __init__(self, status: int, answer: dict[str, Any]) -> None:
        from PIL import Image

        self.error = None if status == 200 else f"{status} {answer.get('message') or answer.get('detail')}"
        self.encoded = answer.get("images") or []
        opened = [Image.open(io.BytesIO(binascii.a2b_base64(image))) for image in self.encoded]
        self.pixels = [(image.size, image.tobytes()) for image in opened]
        self.infotexts = json.loads(answer["info"])["infotexts"] if status == 200 else []

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ForgeDrawing) and bool(self.pixels) and self.pixels == other.pixels

    __hash__ = None


@contextmanager
def serving(forge: Path, python: Path, data: Path, **variables: str) -> Iterator[WebUi]:
    """A server of its own on a free port, with its data in a folder of our own; ended afterwards."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    path = [str(forge / "repositories" / "huggingface_guess"), os.environ.get("PYTHONPATH", "")]
    offline = {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "1", "PYTHONPATH": os.pathsep.join(path)}
    command = [str(python), "webui.py", "--always-cpu", "--skip-torch-cuda-test", "--no-half", "--api"]
    command += ["--port", str(port), "--data-dir", str(data)]
    log = data / "server.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            command, cwd=forge, env={**os.environ, **offline, **variables}, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        web_ui = WebUi(port, log)
        _wait(web_ui, process)
        yield web_ui
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()


def _wait(web_ui: WebUi, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            web_ui.get("/sdapi/v1/script-info")
        except (OSError, ValueError):
            time.sleep(2)
        else:
            if "Startup time" in web_ui.log.read_text():  # The API answers before the scripts' defaults are known.
                return
            time.sleep(2)
    raise SystemExit(f"Forge did not start:\n{web_ui.log.read_text()[-3000:]}")
