"""Without this module the tests of the host could not share one running ComfyUI."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from anonymize_faces.tools.comfy_server import ComfyServer


@pytest.fixture(scope="session")
def server(host: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyServer]:
    """A real ComfyUI process with the extension linked into it, and folders of its own."""
    with ComfyServer(tmp_path_factory.mktemp("comfy"), report=print) as running:
        yield running
