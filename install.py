"""Adds the package that measuring needs, in a way that changes nothing of the host's.

ComfyUI-Manager runs it after each clone and update, with the host's Python; by hand: `python install.py`. It adds
facenet-pytorch without its pins (they would take torch, numpy and Pillow years back) and requests where the host has
none. It never changes or removes a version that is installed, and takes back what it added if that does not work.
Everything but measuring works without, so that is no reason for the Manager to call the extension broken: exit code 0.

Automatic1111 and Forge run it at each start. Nothing is measured there, so there it does and says nothing.

Standard library only; any Python that ComfyUI runs on, the embedded one of portable Windows builds too.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from importlib.metadata import distributions
from importlib.util import find_spec
from pathlib import Path

HOST_PARTS = ("torch", "torchvision", "numpy", "safetensors", "PIL")
FACENET = "facenet-pytorch"
FACENET_VERSION = "2.6.0"
HELPERS = ("requests", "tqdm")
"""What facenet-pytorch imports beside the host's parts; some hosts have no requests."""
RECORD = Path(__file__).resolve().with_name(".installed")
"""Says in which Python this script has added facenet-pytorch, for `--remove`."""
PIP_SECONDS = 900
IMPORT_SECONDS = 300


class InstallError(Exception):
    """Something could not be installed; the message says why in a few words."""


def in_web_ui() -> bool:
    """Whether the launcher of Automatic1111 or Forge runs this: it puts its own folder on the path of modules."""
    folders = [*os.environ.get("PYTHONPATH", "").split(os.pathsep), os.curdir]
    return any(Path(folder, "modules", "launch_utils.py").is_file() for folder in folders if folder)


def python() -> list[str]:
    """This Python, closed to packages of the user if it is closed to them now or is a portable build's."""
    closed = sys.flags.no_user_site or "python_embeded" in sys.executable
    return [sys.executable, *(["-s"] if closed else [])]


def installer(verb: str) -> list[str]:
    """The command that installs into this Python, or uninstalls from it: pip's, or uv's where there is no pip.

    Raises:
        InstallError: there is neither.
    """
    if _runs([*python(), "-m", "pip", "--version"]):
        options = {"install": ["--retries", "1", "--progress-bar", "off"], "uninstall": ["--yes"]}
        return [*python(), "-m", "pip", verb, "--disable-pip-version-check", *options[verb]]
    if _runs([*python(), "-m", "uv", "--version"]):
        return [*python(), "-m", "uv", "pip", verb, "--python", sys.executable]
    if uv := shutil.which("uv"):
        return [uv, "pip", verb, "--python", sys.executable]
    raise InstallError("this Python has neither pip nor uv; 'python -m ensurepip' brings pip")


def installed() -> dict[str, str]:
    """Version of every package of this Python, by its name in lower case with hyphens."""
    return {
        found.metadata["Name"].lower().replace("_", "-").replace(".", "-"): found.version
        for found in distributions()
        if found.metadata["Name"]
    }


def fault() -> str | None:
    """Why facenet-pytorch cannot be imported, tried in a process of its own; None if it can."""
    try:
        done = subprocess.run(
            [*python(), "-c", "import facenet_pytorch"],
            cwd=sys.prefix,  # not here, where our own folders would be found first
            capture_output=True,
            text=True,
            errors="replace",
            timeout=IMPORT_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return f"importing it took longer than {IMPORT_SECONDS} s"
    return _last_line(done) if done.returncode else None


def add() -> list[str]:
    """Installs what is missing, or nothing at all.

    Returns:
        The packages that were added, as `name version`.

    Raises:
        InstallError: it could not be installed, or does not work here and was taken back.
    """
    before = installed()
    if (version := before.get(FACENET)) is not None:
        if reason := fault():
            raise InstallError(f"version {version}, which was there before, does not work: {reason}")
        return []
    try:
        if missing := [helper for helper in HELPERS if find_spec(helper) is None]:
            _install_beside(before, missing)
        _call([*installer("install"), "--no-deps", f"{FACENET}=={FACENET_VERSION}"])
        if reason := fault():
            raise InstallError(f"it does not work here: {reason}")
    except InstallError:
        if added := sorted(installed().keys() - before.keys()):
            _call([*installer("uninstall"), *added])
        raise
    with suppress(OSError):  # a folder that cannot be written to: `--remove` will leave the package alone
        RECORD.write_text(f"{sys.prefix}\n", encoding="utf-8")
    return [f"{name} {version}" for name, version in sorted(installed().items()) if name not in before]


def remove() -> bool:
    """Uninstalls facenet-pytorch if this script has added it to this Python; says whether it did.

    Raises:
        InstallError: it could not be uninstalled.
    """
    if not RECORD.is_file() or RECORD.read_text(encoding="utf-8").strip() != sys.prefix:
        return False
    if FACENET in installed():
        _call([*installer("uninstall"), FACENET])
    RECORD.unlink()
    return True


def _install_beside(before: dict[str, str], packages: list[str]) -> None:
    """Installs packages and what they need, on condition that every version that is there stays."""
    with tempfile.TemporaryDirectory() as folder:
        constraints = Path(folder) / "constraints.txt"
        constraints.write_text("".join(f"{name}=={version}\n" for name, version in before.items()), encoding="utf-8")
        _call([*installer("install"), "--constraint", str(constraints), *packages])


def _call(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=PIP_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InstallError(str(error)) from error
    if done.returncode:
        raise InstallError(_last_line(done))


def _runs(command: list[str]) -> bool:
    return subprocess.run(command, capture_output=True).returncode == 0


def _last_line(done: subprocess.CompletedProcess[str]) -> str:
    """The line that says most about a failure: pip's last error, or the last one."""
    lines = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
    errors = [line for line in lines if line.lower().startswith("error")]
    return (errors or lines or [f"exit code {done.returncode}"])[-1].rstrip(".")


def main() -> int:
    """Says in a sentence what was done; 1 if this is not ComfyUI's Python, or if what was asked for failed, else 0."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("install.py", description=__doc__, formatter_class=formatter)
    parser.add_argument("--require", action="store_true", help="exit code 1 if measuring will not work")
    parser.add_argument("--remove", action="store_true", help=f"uninstall {FACENET} if this script installed it")
    options = parser.parse_args()
    if in_web_ui() and not (options.require or options.remove):
        return 0
    again = f'"{sys.executable}" "{Path(__file__).resolve()}"'
    if options.remove:
        try:
            _say(f"{FACENET} was {'removed' if remove() else 'not installed by this script, and was left alone'}.")
        except InstallError as error:
            _say(f"{FACENET} could not be removed ({error}).")
            return 1
        return 0
    if missing := [part for part in HOST_PARTS if find_spec(part) is None]:
        _say(f"{', '.join(missing)} not found; nothing was installed: run this with the Python that starts ComfyUI.")
        return 1
    try:
        added = add()
    except InstallError as error:
        _say(f"everything works but measuring, which needs {FACENET} ({error}); to try again, run {again}")
        return int(options.require)
    if added:
        _say(f"added {', '.join(added)}; nothing that was installed has changed.")
    else:
        _say("everything it needs is there; nothing was installed or changed.")
    return 0


def _say(sentence: str) -> None:
    sys.stdout.reconfigure(errors="replace")  # a console that lacks a letter of some path
    print(f"Anonymize Faces: {sentence}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
