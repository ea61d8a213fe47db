"""The extension is installed from ComfyUI-Manager, and removed."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from anonymize_faces.tests.support.environments import HALF_COMPILED, Environment, committed, dead_network
from anonymize_faces.tools.comfy_server import ComfyServer
from anonymize_faces.tools.layout import EXTENSION, ROOT

pytestmark = [pytest.mark.slow, pytest.mark.apart]
MANAGER = "comfyui-manager==4.3"
URL = f"https://example.invalid/owner/{EXTENSION}"
FACENET = "facenet-pytorch==2.6.0"
NODES = {page.stem for page in (ROOT / "web" / "docs").glob("*.md")}
USERS_OWN = ("custom_nodes", "input", "models", "output", "temp", "user", ".git")


@dataclass(frozen=True)
class Managed:
    """A ComfyUI of its own with the real Manager in its Python, to which our repository is known under `URL`."""

    python: Environment
    host: Path
    repository: Path

    def manager(self, *arguments: str, **variables: str) -> str:
        """Runs the Manager's command line; its lists are those that came with it."""
        return self.python.run(
            *("-m", "cm_cli", *arguments, "--mode", "local"),
            COMFYUI_PATH=str(self.host),
            GIT_CONFIG_COUNT="1",
            GIT_CONFIG_KEY_0=f"url.{self.repository.as_uri()}.insteadOf",
            GIT_CONFIG_VALUE_0=URL,
            **variables,
        ).stdout

    def files(self) -> set[str]:
        """Every file of the host, but for what Python compiled."""
        paths = (path.relative_to(self.host) for path in self.host.rglob("*") if not path.is_dir())
        return {str(path) for path in paths if "__pycache__" not in path.parts}

    def nodes(self) -> set[str]:
        """Our nodes in this ComfyUI, which is started for the purpose."""
        variables = self.python.variables()
        server = ComfyServer(host=self.host, python=self.python.python, environment={**variables, "PYTHONPATH": ""})
        with server:
            listed = server.object_info().items()
        return {name for name, node in listed if EXTENSION in node["python_module"]}


@pytest.fixture(scope="module")
def managed(host: Path, host_python: Environment, tmp_path_factory: pytest.TempPathFactory) -> Managed:
    folder = tmp_path_factory.mktemp("managed")
    shutil.copytree(
        host, folder / "ComfyUI", ignore=lambda at, names: USERS_OWN if at == str(host) else HALF_COMPILED(at, names)
    )
    for own in ("custom_nodes", "models"):
        (folder / "ComfyUI" / own).mkdir()
    host_python.run("-m", "pip", "install", "--quiet", "--no-compile", MANAGER)
    made = Managed(host_python, folder / "ComfyUI", committed(folder / EXTENSION))
    made.manager("show", "installed")  # the Manager makes folders of its own
    return made


def test_the_manager_installs_it_beside_everything_and_leaves_nothing_of_it(managed):
    packages, files = managed.python.packages(), managed.files()

    assert "[INSTALLED]" in managed.manager("install", URL, "--exit-on-fail")
    assert managed.python.packages() == packages | {FACENET}
    extension = managed.host / "custom_nodes" / EXTENSION
    assert managed.nodes() == NODES
    managed.python.run("-c", "import facenet_pytorch")

    prefix = managed.host / "models" / "anonymization_prefixes" / "mine.safetensors"
    prefix.parent.mkdir(exist_ok=True)
    prefix.write_bytes(b"the user's")
    assert "was removed" in managed.python.run(extension / "install.py", "--remove").stdout
    assert "[UNINSTALLED]" in managed.manager("uninstall", EXTENSION)
    assert not extension.exists()
    assert managed.python.packages() == packages
    assert managed.files() == files | {str(prefix.relative_to(managed.host))}


def test_where_facenet_cannot_be_had_the_manager_counts_it_as_installed_and_every_node_is_there(managed):
    packages = managed.python.packages()
    said = managed.manager("install", URL, "--exit-on-fail", **dead_network())
    assert "[INSTALLED]" in said
    assert "everything works but measuring" in said
    assert "install script failed" not in said
    assert managed.python.packages() == packages
    assert managed.nodes() == NODES
    managed.manager("uninstall", EXTENSION)
