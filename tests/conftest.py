"""Without this module each test would look for the host in its own way."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from anonymize_faces.demo.measure import Gallery, make_gallery
from anonymize_faces.demo.reader import ReaderNet, load_reader
from anonymize_faces.tests.environments import Environment, environment
from anonymize_faces.tools.comfy_server import ComfyServer
from anonymize_faces.tools.layout import host_folder

hypothesis.settings.register_profile("same every time", derandomize=True, deadline=None, database=None)
hypothesis.settings.load_profile("same every time")


@pytest.fixture(scope="session")
def host() -> Path:
    """The folder of a real ComfyUI. Its absence is a failure, never a reason to skip."""
    folder = host_folder()
    if not (folder / "main.py").is_file():
        pytest.fail(f"There is no ComfyUI in {folder}: run 'make test', which sets it up.")
    return folder


@pytest.fixture(scope="session")
def server(host: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyServer]:
    """A real ComfyUI process with the extension linked into it, and folders of its own; all tests share it."""
    with ComfyServer(tmp_path_factory.mktemp("comfy"), report=print) as running:
        yield running


@pytest.fixture
def tidy(server: ComfyServer) -> Iterator[None]:
    """Takes away the prefix files that a test leaves on the shared server: others look at all there are."""
    before = set(server.prefix_folder.rglob("*.*"))
    yield
    for path in set(server.prefix_folder.rglob("*.*")) - before:
        path.unlink()


@pytest.fixture(scope="session")
def host_modules(host: Path) -> None:
    """Makes the host's own modules importable in this process, on the CPU.

    The host does not read our command line: its own parsing is off unless asked for.
    """
    sys.path.append(str(host))
    from comfy.cli_args import args

    args.cpu = True


@pytest.fixture(scope="session")
def host_python() -> Iterator[Environment]:
    """A Python with all of ComfyUI's packages and without facenet-pytorch; tests leave it as they found it."""
    with environment() as made:
        yield made


@pytest.fixture(scope="session")
def reader() -> ReaderNet:
    """The demo's reader."""
    return load_reader()


@pytest.fixture(scope="session")
def gallery(reader: ReaderNet) -> Gallery:
    """What the reader sees in some 6,000 renders of the cast and of strangers."""
    return make_gallery(reader)
