"""Gives the tests of the browser side a browser, or the reason to skip."""

from __future__ import annotations

import os
import shutil
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from anonymize_faces.tests.browser.shared_page import SharedPage, note
from anonymize_faces.tests.browser.workbench import Workbench
from anonymize_faces.tools.comfy_server import ComfyServer

if TYPE_CHECKING:
    from playwright.sync_api import Browser

PROGRAMS = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
)
START_SECONDS = 120
_SHARED = pytest.StashKey[SharedPage]()
REQUIRED = "ANONYMIZE_FACES_REQUIRE_BROWSER"
MISSING = (
    "There is no Chromium to look with: install it (Debian: apt-get install chromium; Ubuntu: snap install chromium;"
    " Fedora: dnf install chromium), then run the tests again."
)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A real Chromium. Without one the tests are skipped, or fail if `REQUIRED` is set, as CI does once it has one."""
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        (pytest.fail if os.environ.get(REQUIRED) else pytest.skip)(MISSING)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(
            executable_path=program, args=list(ARGUMENTS), timeout=START_SECONDS * 1000
        )
        yield launched
        launched.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    note(item.config, report)
    return report


@pytest.fixture(scope="session")
def shared_page(request: pytest.FixtureRequest, browser: Browser, server: ComfyServer) -> Iterator[SharedPage]:
    page = request.config.stash[_SHARED] = SharedPage(browser, server)
    yield page
    page.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None, None, None]:
    """Closes the page after the last test here: an open one draws itself on and on, beside all tests that follow."""
    yield
    last = nextitem is None or Path(__file__).parent not in nextitem.path.parents
    if last and (page := item.config.stash.get(_SHARED, None)) is not None:
        page.close()


@pytest.fixture
def workbench(request: pytest.FixtureRequest, shared_page: SharedPage, tidy: None) -> Iterator[Workbench]:
    """The page with an empty canvas in the classic rendering; afterwards it may not have complained of our files."""
    page = shared_page.get(request.config)
    page.clear()
    yield page
    complaints, page.complaints = page.complaints, []
    assert complaints == []


@pytest.fixture(params=["classic", "nodes 2.0"])
def either_workbench(request: pytest.FixtureRequest, workbench: Workbench) -> Workbench:
    """The same in each of the two ways in which the frontend draws nodes."""
    workbench.draw_nodes(vue=request.param != "classic")
    return workbench
