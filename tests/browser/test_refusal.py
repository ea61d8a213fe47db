"""What a person sees in a real browser whose workflow a server that enforces refuses."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from anonymize_faces.nodes.enforcement.rewriting import UNPROTECTED
from anonymize_faces.prefix import save_prefix
from anonymize_faces.tests.browser.workbench import PATIENCE, Workbench, load
from anonymize_faces.tests.support.drawing import make_prefix
from anonymize_faces.tools.comfy_server import ComfyServer
from anonymize_faces.tools.layout import ROOT

if TYPE_CHECKING:
    from playwright.sync_api import Browser

EXAMPLE = ROOT / "example_workflows" / "1 Train on the demo model.json"
TRAIN = "TrainAnonymizationPrefix"


@pytest.fixture
def enforcing(browser: Browser, host: Path, tmp_path: Path) -> Iterator[Workbench]:
    """The page of a server of its own, which enforces; `browser` comes first, so that none starts in vain."""
    server = ComfyServer(tmp_path, report=print, environment={"ANONYMIZE_FACES_ENFORCE": "studio.safetensors"})
    save_prefix(make_prefix(0), server.prefix_folder / "studio.safetensors")
    with server:
        workbench = Workbench(browser, server)
        yield workbench
        workbench.close()


def test_the_refusal_is_told_in_the_page_with_its_remedy(enforcing: Workbench) -> None:
    enforcing.open(load(EXAMPLE))
    assert len(enforcing.nodes(TRAIN)) == 1
    enforcing.queue()
    told = enforcing.page.get_by_text(UNPROTECTED[TRAIN]).first
    told.wait_for(timeout=PATIENCE)
    enforcing.picture("refusal")
    assert enforcing.complaints == []
