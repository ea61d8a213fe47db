"""The Comfy Registry takes the extension, and what its scanner warns of is explained."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import venv
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from anonymize_faces.tests.support.environments import Environment, committed
from anonymize_faces.tools.layout import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.apart]
TOOLS = ("comfy-cli==1.23.0", "nodesafe==0.6.0")
STARTS_PROCESSES = ("install.py", "tools/", "tests/", "benchmarks/", "demo/headless_job.py")
TALKS = ("faces/weights.py", "tools/", "tests/", "benchmarks/")
EXPLAINED: Mapping[str, Callable[[str, int, str], bool]] = {
    "code_execution": lambda file, _, line: bool(
        re.search(r"re\.compile\(|\.eval\(\)|literal_eval\(", line)
        or (file.startswith(("demo/making/", "scripts/", "tests/", "benchmarks/")) and "import_module(" in line)
    ),
    "shell_execution": lambda file, *_: file.startswith(STARTS_PROCESSES),
    "network_call": lambda file, *_: file.startswith(TALKS),
    "encoded_payload": lambda file, _, line: file.startswith("tests/") and "pickle.loads(pickle.dumps(" in line,
    "unsafe_deserialization": lambda file, *_: file.startswith("tests/") or _only_writes_pickles(file),
    "dynamic_attribute_access": lambda *_: True,
    "obfuscation_chains": lambda file, _, line: (
        file.startswith("tests/") or "ecord(" in line or (file == "prefix/markup.py" and "ord(found[0])" in line)
    ),
    "code_obfuscation_high_entropy": lambda file, number, line: (
        _is_readable(ROOT / file, number)
        or (file.startswith("tests/browser/") and re.search(r"page\.evaluate\(|=>", line) is not None)
        or (file == "tests/host/test_locales.py" and line.strip().startswith("r'"))
    ),
    "code_obfuscation_suspicious_ident": lambda *_: True,
    "aggregate_risk": lambda *_: True,
}
"""Kinds of findings, with what a finding's file, line number and line must be for docs/security-scan.md to hold."""


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return committed(tmp_path_factory.mktemp("registry") / "repository")


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the registry's and the scanner's command lines, in an environment of their own."""
    folder = tmp_path_factory.mktemp("programs")
    venv.create(folder)
    Environment(folder).pip("install", "--quiet", "--no-compile", *TOOLS)
    return folder / "bin"


def run(program: Path, *arguments: str, at: Path) -> subprocess.CompletedProcess[str]:
    """Runs one of them in a folder, with settings of its own."""
    env = {**os.environ, "HOME": str(program.parent), "NO_COLOR": "1"}
    return subprocess.run([program, *arguments], cwd=at, env=env, capture_output=True, text=True, check=False)


def _only_writes_pickles(file: str) -> bool:
    """Whether a file is the one that asks if a pipeline can be pickled, and reads no pickle."""
    text = (ROOT / file).read_text(encoding="utf-8")
    return file == "engines/diffusers/protection.py" and not re.search(r"pickle\.load|Unpickler", text)


def _is_readable(path: Path, number: int) -> bool:
    """Whether the longest text that begins in a line is prose, an address, a name of ours or a regular expression."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    constants = (node for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str))
    text = max((node.value for node in constants if node.lineno == number), key=len)
    line = path.read_text(encoding="utf-8").splitlines()[number - 1]
    plain = len(text.split()) > len(text) / 20 or text.startswith(("https://", "anonymize_faces."))
    return plain or "re.compile(" in line


def test_the_registrys_own_check_finds_nothing(programs, repository):
    done = run(programs / "comfy", "--skip-prompt", "--no-enable-telemetry", "node", "validate", at=repository)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "All validation checks passed" in done.stdout + done.stderr
    assert "arning" not in done.stdout + done.stderr


def test_what_the_registry_packs_is_what_a_host_needs(programs, repository):
    done = run(programs / "comfy", "--skip-prompt", "--no-enable-telemetry", "node", "pack", at=repository)
    assert done.returncode == 0, done.stdout + done.stderr
    with zipfile.ZipFile(repository / "node.zip") as archive:
        packed = set(archive.namelist())
    (repository / "node.zip").unlink()
    folders = {name.partition("/")[0] for name in packed}
    assert {
        "__init__.py",
        "install.py",
        "LICENSE",
        "nodes",
        "prefix",
        "engines",
        "runs",
        "trainer",
        "cli",
        "demo",
        "web",
    } <= folders
    assert not folders & {"tests", "benchmarks"}
    assert {f"demo/weights/{path.name}" for path in (ROOT / "demo" / "weights").glob("*.safetensors")} < packed


def test_every_finding_of_a_security_scan_is_explained(programs, repository):
    done = run(programs / "nodesafe", "scan", ".", "--format", "json", at=repository)
    findings: list[dict[str, Any]] = json.loads(done.stdout)["findings"]
    explanations = (ROOT / "docs" / "security-scan.md").read_text(encoding="utf-8")
    assert {finding["category"] for finding in findings} <= EXPLAINED.keys()
    assert all(f"| `{kind}` |" in explanations for kind in EXPLAINED)

    def explained(finding: dict[str, Any]) -> bool:
        if finding["file"] is None:
            return finding["category"] == "aggregate_risk"
        number = finding["line"] or 1
        line = (repository / finding["file"]).read_text(encoding="utf-8").splitlines()[number - 1]
        return EXPLAINED[finding["category"]](finding["file"], number, line)

    strange = [f for f in findings if not explained(f)]
    assert strange == []
    assert not [f for f in findings if f["severity"] == "critical"]
