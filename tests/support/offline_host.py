"""Starts a ComfyUI as it is on a machine without a network and without facenet-pytorch, with other people's nodes."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from anonymize_faces.tests.support.enforced_workflow import Enforcing

PROXIES = ("https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY")
NOT_INSTALLED = "raise ModuleNotFoundError('No module named facenet_pytorch', name='facenet_pytorch')"


class OfflineHost:
    """A server that enforces nothing and can download nothing; facenet-pytorch is not there until it is installed."""

    def __init__(self, folder: Path, host: Path) -> None:
        self._stub = folder / "without" / "facenet_pytorch.py"
        self._stub.parent.mkdir(parents=True)
        self._stub.write_text(NOT_INSTALLED, encoding="utf-8")
        paths = os.pathsep.join(filter(None, (str(self._stub.parent), os.environ.get("PYTHONPATH"))))
        dead = dict.fromkeys(PROXIES, "http://127.0.0.1:9")
        self.server = Enforcing(folder, host, **dead, no_proxy="127.0.0.1", PYTHONPATH=paths).server

    def install_facenet(self) -> None:
        """Lets the facenet-pytorch of the environment be found."""
        shutil.rmtree(self._stub.parent)
