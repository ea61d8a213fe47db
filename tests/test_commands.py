"""How the commands end: a sentence and an exit code, whatever was in the way; and that they wait on silence."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from anonymize_faces.prefix import TrainingError
from anonymize_faces.tools import tests
from anonymize_faces.tools.comfy_server import ServerError, ServerSilentError
from anonymize_faces.tools.command import run_command
from anonymize_faces.tools.layout import ROOT
from anonymize_faces.tools.silence import Silence


def run(*arguments: str, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )


def told(done: subprocess.CompletedProcess[str], code: int = 1) -> str:
    """What a command said that ended with that code, without a traceback."""
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    return done.stderr


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(28, "No space left on device", "/there/file"), "'/there/file': No space left on device. See to it"),
        (PermissionError(13, "Permission denied", "/there"), "Permission denied"),
        (RuntimeError("[enforce fail at inline_container.cc:595] unexpected pos"), "cannot be read or written"),
        (MemoryError(), "not enough memory"),
        (TrainingError("Ours."), "Ours."),
        (ServerError("ComfyUI was ended by signal 9.", "Log:\nTraceback\nlast"), "line of its log: last"),
        (ServerSilentError("ComfyUI does not answer."), "does not answer"),
        (ModuleNotFoundError("No module named 'torch'"), "run 'make setup'"),
        (subprocess.CalledProcessError(2, "train"), "exit code 2"),
    ],
)
def test_trouble_is_a_sentence(error: Exception, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> None:
        raise error

    assert run_command(main) == 1
    said = capsys.readouterr().err
    assert words in said and "Traceback" not in said and len(said.strip().splitlines()) == 1


def test_interruption_is_one_line_and_a_fault_of_ours_keeps_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)

    assert run_command(interrupted, "It was interrupted; it goes on.") == 130
    assert capsys.readouterr().err == "\nIt was interrupted; it goes on.\n"
    with pytest.raises(ZeroDivisionError):
        run_command(lambda: 1 // 0)
    assert run_command(lambda: None) == 0


def test_serve_says_that_its_port_is_taken() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"listens on port {port}" in told(run("-m", "anonymize_faces.tools.serve", "--port", str(port)))


def test_serve_says_that_there_is_no_host_and_no_such_port(tmp_path: Path) -> None:
    assert "make setup" in told(run("-m", "anonymize_faces.tools.serve", COMFYUI_DIR=str(tmp_path)))
    assert "no port" in told(run("-m", "anonymize_faces.tools.serve", "--port", "abc"), 2)
    assert "no port" in told(run("-m", "anonymize_faces.tools.serve", PORT="99999"), 2)


def test_the_demo_says_that_there_is_no_host_and_that_its_folder_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    demo = ("-m", "anonymize_faces.demo.main_job", "--output")
    assert "make setup" in told(run(*demo, str(tmp_path / "out"), COMFYUI_DIR=str(tmp_path)))
    assert "Not a directory" in told(run(*demo, str(tmp_path / "file" / "out")))


FULL = """
import resource, runpy, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
sys.argv = sys.argv[1:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""
"""Runs a module that may write no file longer than 4 KiB, as where the disk is full."""


def test_a_full_disk_is_a_sentence(tmp_path: Path) -> None:
    arguments = ("-c", FULL, "anonymize_faces.demo.diffusers_folder", str(tmp_path / "model"))
    assert "large" in told(run(*arguments))


def test_silence_is_broken_by_what_is_heard_and_by_what_is_printed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    silence = Silence(0.3, log)
    for sign in (silence.heard, lambda: log.write_text("a"), lambda: log.write_text("ab")):
        time.sleep(0.2)
        sign()
        assert not silence.too_long()
    time.sleep(0.4)
    assert silence.too_long()


def test_all_tests_are_run_side_by_side_and_one_that_fails_fails_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")  # Else each of them would compile all that it imports.
    written = "import sys; assert not sys.dont_write_bytecode"
    for name, outcome in (("first", written), ("second", "assert False"), ("third", "pass")):
        (tmp_path / f"test_{name}.py").write_text(f"def test_{name}() -> None:\n    {outcome}\n", encoding="utf-8")
    names = ("first", "second", "third")
    runs = [tests.TestRun(name, ("-p", "no:cacheprovider", str(tmp_path / f"test_{name}.py"))) for name in names]
    monkeypatch.setattr(tests, "RUNS", runs)
    monkeypatch.setattr(tests, "_tell_coverage", lambda: None)
    assert tests.main() == 1
    told = capfd.readouterr().out
    assert [told.index(f"Tests {name}:") for name in names[1:]] and told.count("1 passed") == 2
    assert "FAILED" in told and told.count("1 failed") == 1


def test_each_test_is_in_one_run_and_the_measured_rooms_are_those_of_coverage() -> None:
    settings = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    source = re.search(r"^source = (\[.*\])$", settings, re.MULTILINE)
    assert source is not None and set(json.loads(source[1])) == set(tests.ROOMS)
    hosts, rooms, apart, benchmarks, types = (run.arguments for run in tests.RUNS)
    assert types == () and tests.RUNS[-1].command[1:] == ["-m", "mypy"]
    folders = [f"tests/{room}" for room in tests.ROOMS]
    assert all((ROOT / folder).is_dir() for folder in folders)
    others = [f"--ignore={folder}" for folder in [*folders, tests.BENCHMARKS]]
    assert [part for part in hosts if part.startswith("--ignore")] == others
    assert [part for part in rooms if part.startswith("tests/")] == folders
    assert [part for part in benchmarks if part.startswith("tests/")] == [tests.BENCHMARKS]
    assert "apart" in apart and all("not apart" in run for run in (hosts, rooms, benchmarks))
