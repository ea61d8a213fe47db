"""Gives all tests the host, its server, tiny models and prefixes, and a recognizer."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
import torch

from anonymize_faces.demo.measuring.measure import make_gallery
from anonymize_faces.demo.measuring.reader import ReaderNet, committed_reader
from anonymize_faces.faces.facenet import VGGFACE2, FacenetRecognizer, load_facenet
from anonymize_faces.faces.gallery import Gallery
from anonymize_faces.prefix import Prefix
from anonymize_faces.runs import tensor_cache
from anonymize_faces.tests.support.enforced_workflow import Enforcing
from anonymize_faces.tests.support.environments import Environment, environment
from anonymize_faces.tests.support.facenet_weights import random_weights
from anonymize_faces.tests.support.offline_host import OfflineHost
from anonymize_faces.tests.support.prefixes import random_prefix
from anonymize_faces.tests.support.tiny_checkpoints import TinyCheckpoint, tiny_checkpoint
from anonymize_faces.tools.comfy_server import ComfyServer
from anonymize_faces.tools.layout import host_folder

hypothesis.settings.register_profile("same every time", derandomize=True, deadline=None, database=None)
hypothesis.settings.load_profile("same every time")


@pytest.fixture(autouse=True)
def disk_with_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts no disk as full before it is: beside other tests the machine's own may be nearly so."""
    monkeypatch.setattr(tensor_cache, "LEFT_FREE", 0)


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
def enforcing(host: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Enforcing]:
    """A real ComfyUI process that must protect every prompt, with a pack of other people's nodes; tests share it."""
    setting = {"ANONYMIZE_FACES_ENFORCE": "studio.safetensors", "ANONYMIZE_FACES_EMBEDDINGS": "styles/ink"}
    made = Enforcing(tmp_path_factory.mktemp("enforcing"), host, **setting)
    with made.server:
        yield made


@pytest.fixture(scope="session")
def offline(host: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OfflineHost]:
    """A real ComfyUI process without a network, with a pack of other people's nodes; tests share it."""
    made = OfflineHost(tmp_path_factory.mktemp("offline"), host)
    with made.server:
        yield made


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
    return committed_reader()


@pytest.fixture(scope="session")
def gallery(reader: ReaderNet) -> Gallery:
    """What the reader sees in some 6,000 renders of the cast and of strangers."""
    return make_gallery(reader)


@pytest.fixture(scope="session")
def comfy(host_modules):
    """The host's package, on the CPU."""
    import comfy.sd1_clip

    return comfy


@pytest.fixture(scope="session")
def make_prefix():
    """Builds a prefix of m vectors with the widths given, by encoder key."""

    def make(m: int = 10, seed: int = 0, **widths: int) -> Prefix:
        return random_prefix(widths, m, seed)

    return make


@pytest.fixture(scope="session")
def make_checkpoint(host_modules: None) -> Callable[..., TinyCheckpoint]:
    """Makes tiny checkpoints; see `tiny_checkpoint`."""
    return tiny_checkpoint


@pytest.fixture(scope="session")
def make_denoiser(host_modules: None) -> Callable[..., Any]:
    """Makes the engine for a checkpoint, with a sampler of few steps."""

    def make(checkpoint: TinyCheckpoint, size: tuple[int, int] = (64, 64)) -> Any:
        from anonymize_faces.engines.comfy.denoiser import ComfyDenoiser, Drawing

        return ComfyDenoiser(checkpoint.model, checkpoint.clip, checkpoint.vae, size, Drawing(steps=3, cfg=2.0))

    return make


@pytest.fixture(params=["EPS", "V_PREDICTION", "FLOW"])
def checkpoint(request: pytest.FixtureRequest, make_checkpoint: Callable[..., TinyCheckpoint]) -> TinyCheckpoint:
    """A tiny checkpoint of each parameterization, its weights loaded as the host's nodes do: in inference mode."""
    with torch.inference_mode():
        return make_checkpoint(request.param)


@pytest.fixture(scope="session")
def weights_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`models/facenet` with random weights in place of the official ones."""
    folder = tmp_path_factory.mktemp("facenet")
    torch.save(random_weights(), folder / VGGFACE2.name)
    return folder


@pytest.fixture(scope="session")
def facenet(weights_folder: Path) -> FacenetRecognizer:
    """The real MTCNN, and InceptionResnetV1 with random weights."""
    return load_facenet([weights_folder], lambda network: None, lambda done, total: None)


@pytest.fixture(scope="session")
def astronaut() -> np.ndarray:
    """A photograph of one woman, uint8 [512, 512, 3]."""
    from skimage import data

    return data.astronaut()
