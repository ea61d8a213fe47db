"""install.py breaks nothing of the ComfyUI that it is run in."""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from anonymize_faces.tests.support.environments import Environment, dead_network
from anonymize_faces.tools.layout import ROOT

pytestmark = pytest.mark.apart
FACENET = "facenet-pytorch==2.6.0"


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """install.py as in a folder of custom_nodes, where it may leave its record."""
    return Path(shutil.copy(ROOT / "install.py", tmp_path))


def sentence(done: subprocess.CompletedProcess[str]) -> str:
    """What it said: one line, whatever happened."""
    (line,) = done.stdout.splitlines()
    assert line.startswith("Anonymize Faces: ")
    return line


@pytest.mark.slow
def test_it_adds_facenet_alone_does_nothing_twice_and_takes_it_back(host_python, script):
    before = host_python.packages()
    assert "added facenet-pytorch 2.6.0; nothing that was installed has changed" in sentence(host_python.run(script))
    assert host_python.packages() == before | {FACENET}

    assert "nothing was installed or changed" in sentence(host_python.run(script, **dead_network()))
    assert host_python.packages() == before | {FACENET}

    assert "was removed" in sentence(host_python.run(script, "--remove"))
    assert host_python.packages() == before
    assert list(script.parent.iterdir()) == [script]


@pytest.mark.slow
def test_an_isolated_python_as_in_portable_windows_builds_will_do(host_python, script):
    before = host_python.packages()
    assert "added facenet-pytorch 2.6.0" in sentence(host_python.run("-I", script))
    assert host_python.packages() == before | {FACENET}
    assert "was removed" in sentence(host_python.run("-I", script, "--remove"))
    assert host_python.packages() == before


def test_without_a_network_only_measuring_is_missing(host_python, script):
    before = host_python.packages()
    done = host_python.run(script, **dead_network(), check=False)
    assert "everything works but measuring" in sentence(done)
    assert f'to try again, run "{host_python.python}" "{script}"' in sentence(done)
    assert done.returncode == 0, "the Manager would call the whole extension broken"
    odd = shutil.move(script, script.parent / "wó")
    ascii_only = host_python.run(odd, "--require", **dead_network(), check=False, PYTHONIOENCODING="ascii")
    assert "w?" in sentence(ascii_only)
    assert ascii_only.returncode == 1
    assert host_python.packages() == before


@pytest.mark.slow
def test_where_there_is_no_pip_uv_does_it(host_python, script):
    host_python.pip("install", "uv")
    with host_python.without("pip"):
        before = host_python.packages()
        assert "added facenet-pytorch 2.6.0" in sentence(host_python.run(script))
        assert host_python.packages() == before | {FACENET}
        assert "was removed" in sentence(host_python.run(script, "--remove"))
        assert host_python.packages() == before


def test_without_pip_and_uv_it_says_what_brings_pip(host_python, script):
    with host_python.without("pip", "uv"):
        done = host_python.run(script, PATH="/nowhere")
    assert "has neither pip nor uv; 'python -m ensurepip' brings pip" in sentence(done)


def test_what_does_not_import_here_is_taken_back(host_python, script):
    with host_python.without("torchvision/ops/boxes.py", "requests"):
        before = host_python.packages()
        done = host_python.run(script)
        assert "it does not work here: ModuleNotFoundError: No module named 'torchvision.ops.boxes'" in sentence(done)
        assert host_python.packages() == before
    assert list(script.parent.iterdir()) == [script]


@pytest.mark.slow
def test_a_host_without_requests_gets_one_that_goes_with_the_versions_it_has(host_python, script):
    with host_python.without("requests", "certifi"):
        host_python.pip("install", "certifi==2022.12.7")  # the newest requests would want another
        before = host_python.packages()
        assert "added facenet-pytorch 2.6.0, requests" in sentence(host_python.run(script))
        after = host_python.packages()
        assert before < after
        assert {line.partition("==")[0] for line in after - before} == {"facenet-pytorch", "requests"}
        host_python.run(script, "--remove")


def test_another_version_that_is_there_stays(host_python, script):
    host_python.pip("install", "--no-deps", "facenet-pytorch==2.5.3")
    before = host_python.packages()
    assert "nothing was installed or changed" in sentence(host_python.run(script))
    assert "not installed by this script, and was left alone" in sentence(host_python.run(script, "--remove"))
    assert host_python.packages() == before
    host_python.pip("uninstall", "--yes", "facenet-pytorch")


def test_a_python_that_is_not_the_hosts_is_refused(tmp_path, script):
    venv.create(tmp_path / "venv", with_pip=False)
    other = Environment(tmp_path / "venv")
    done = other.run(script, check=False)
    assert done.returncode == 1
    assert "torch, torchvision, numpy, safetensors, PIL not found" in sentence(done)
    assert "the Python that starts ComfyUI" in sentence(done)


def test_in_automatic1111_and_forge_where_nothing_is_measured_it_does_and_says_nothing(host_python, script, tmp_path):
    web_ui = tmp_path / "web ui"
    (web_ui / "modules").mkdir(parents=True)
    (web_ui / "modules" / "launch_utils.py").touch()
    before = host_python.packages()
    done = host_python.run(script, PYTHONPATH=str(web_ui))
    assert (done.stdout, done.returncode) == ("", 0)
    assert host_python.packages() == before
    assert {path.name for path in tmp_path.iterdir()} == {"install.py", "web ui"}


def test_requirements_are_empty_so_nothing_is_resolved_in_a_host():
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line and not line.startswith("#")] == []


def test_it_needs_nothing_but_the_standard_library():
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import install; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    assert {name.partition(".")[0] for name in done.stdout.split()} - {"install"} <= {
        *sys.stdlib_module_names,
        "__main__",
        "sys",
    }
