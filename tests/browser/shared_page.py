"""Holds the page that all tests share, until one fails."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from anonymize_faces.tests.browser.workbench import Workbench
from anonymize_faces.tools.comfy_server import ComfyServer

if TYPE_CHECKING:
    from playwright.sync_api import Browser

_FAILED = pytest.StashKey[bool]()


def note(config: pytest.Config, report: pytest.TestReport) -> None:
    """Takes down that a test failed, be it before, in or after it."""
    if report.failed:
        config.stash[_FAILED] = True


class SharedPage:
    """A page that is kept from test to test, since loading one takes long; a test that failed may leave it broken."""

    def __init__(self, browser: Browser, server: ComfyServer) -> None:
        self._browser = browser
        self._server = server
        self._opened: Workbench | None = None

    def get(self, config: pytest.Config) -> Workbench:
        """The page as the last test left it, or a fresh one if any has failed since it was opened."""
        if config.stash.get(_FAILED, False):
            config.stash[_FAILED] = False
            self.close()
        if self._opened is None:
            self._opened = Workbench(self._browser, self._server)
        return self._opened

    def close(self) -> None:
        """Closes the page if there is one."""
        if self._opened is not None:
            opened, self._opened = self._opened, None
            opened.close()
