"""The scripts are linted, and checked against the types that the frontend publishes."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from anonymize_faces.tools.layout import ROOT

HERE = ROOT / "tests" / "browser"
MINUTES = 5


def _run(*command: str, folder: Path = HERE) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60 * MINUTES, check=False)


@pytest.fixture(scope="module")
def programs() -> Path:
    """Where TypeScript and ESLint are, at the pinned versions, fetched at the first use."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("There is no npm to get what checks scripts with: install Node.js 20 or newer.")
    pinned = json.loads((HERE / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    there = HERE / "node_modules" / ".package-lock.json"
    wanted = {name: package["version"] for name, package in pinned.items() if name and not package.get("optional")}
    found = json.loads(there.read_text(encoding="utf-8"))["packages"] if there.is_file() else {}
    if any(found.get(name, {}).get("version") != version for name, version in wanted.items()):
        try:
            done = _run(npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund")
        except subprocess.TimeoutExpired:
            pytest.skip("npm did not get what checks scripts in time.")
        assert "EUSAGE" not in done.stderr, done.stderr  # The lock file does not fit.
        if done.returncode:
            pytest.skip(f"npm could not get what checks scripts: {done.stderr.strip()[-300:]}")
    return HERE / "node_modules" / ".bin"


def test_the_scripts_fit_the_frontends_types(programs: Path) -> None:
    done = _run(str(programs / "tsc"), "--project", "tsconfig.json")
    assert done.returncode == 0, done.stdout


def test_a_script_that_does_not_fit_is_found(programs: Path, tmp_path: Path) -> None:
    script = ROOT / "web" / "shared" / "text.js"
    text = script.read_text(encoding="utf-8")
    settings = json.loads((HERE / "tsconfig.json").read_text(encoding="utf-8"))
    wrong = tmp_path / "wrong.js"
    host = (ROOT / "web" / "shared" / "host.js").as_posix()
    wrong.write_text(text.replace("./host.js", host).replace("api.fetchApi(", "api.fetchApu("), encoding="utf-8")
    options = settings["compilerOptions"] | {"baseUrl": str(HERE)}
    (tmp_path / "tsconfig.json").write_text(json.dumps({"compilerOptions": options, "include": ["wrong.js"]}))
    done = _run(str(programs / "tsc"), "--project", str(tmp_path / "tsconfig.json"))
    assert done.returncode != 0 and "fetchApu" in done.stdout


def _lint(programs: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """ESLint over all scripts below a folder; it lints nothing above the folder that it is started in."""
    config = str(HERE / "eslint.config.mjs")
    return _run(str(programs / "eslint"), "--config", config, "--max-warnings", "0", ".", folder=folder)


def test_the_scripts_are_linted(programs: Path) -> None:
    done = _lint(programs, ROOT / "web")
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_script_with_faults_is_found(programs: Path, tmp_path: Path) -> None:
    (tmp_path / "faults.js").write_text("export function f(x) {\n  if ((x = 1)) return navigater;\n  const y = 1;\n}\n")
    done = _lint(programs, tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "no-undef" in done.stdout and "no-unused-vars" in done.stdout
