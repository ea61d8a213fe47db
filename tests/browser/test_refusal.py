"""What a person sees in a real browser whose workflow a server that enforces refuses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from anonymize_faces.nodes.enforcement.rewriting import UNPROTECTED
from anonymize_faces.tests.browser.workbench import PATIENCE, Workbench, load
from anonymize_faces.tests.support.enforced_workflow import Enforcing
from anonymize_faces.tools.layout import ROOT

if TYPE_CHECKING:
    from playwright.sync_api import Browser

EXAMPLE = ROOT / "example_workflows" / "1 Train on the demo model.json"
TRAIN = "TrainAnonymizationPrefix"


@pytest.fixture
def refusing(browser: Browser, enforcing: Enforcing) -> Iterator[Workbench]:
    """The page of a server that enforces; `browser` comes first, so that none starts in vain."""
    workbench = Workbench(browser, enforcing.server)
    yield workbench
    workbench.close()


def test_the_refusal_is_told_in_the_page_with_its_remedy(refusing: Workbench) -> None:
    refusing.open(load(EXAMPLE))
    assert len(refusing.nodes(TRAIN)) == 1
    refusing.queue()
    told = refusing.page.get_by_text(UNPROTECTED[TRAIN]).first
    told.wait_for(timeout=PATIENCE)
    refusing.picture("refusal")
    assert refusing.complaints == []
