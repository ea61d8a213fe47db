"""One failure stays one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from anonymize_faces.tests.browser.shared_page import SharedPage, note

TWO_TESTS = """
from anonymize_faces.tests.browser import shared_page

def test_that_fails():
    assert False

def test_after_it(pytestconfig):
    assert pytestconfig.stash[shared_page._FAILED]
"""


def test_a_failure_is_taken_down(tmp_path: Path) -> None:
    (tmp_path / "test_two.py").write_text(TWO_TESTS)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "anonymize_faces.tests.browser.conftest", "-c", "none.ini"]
    (tmp_path / "none.ini").touch()
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert "1 failed, 1 passed" in done.stdout, done.stdout + done.stderr


def test_after_a_failure_there_is_a_fresh_page(request: pytest.FixtureRequest, shared_page: SharedPage) -> None:
    first = shared_page.get(request.config)
    assert shared_page.get(request.config) is first
    failed = pytest.TestReport("a test", ("", 0, ""), {}, "failed", None, "setup")
    note(request.config, failed)
    fresh = shared_page.get(request.config)
    assert fresh is not first and first.page.is_closed()
    fresh.clear()
    assert shared_page.get(request.config) is fresh
