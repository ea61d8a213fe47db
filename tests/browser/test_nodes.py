"""The nodes in the real frontend of a real ComfyUI, in a real browser."""

from __future__ import annotations

import pytest

from anonymize_faces.tests.browser.workbench import Workbench

TITLES = {
    "AnonymizeFaces": "Anonymize Faces",
    "TrainAnonymizationPrefix": "Train Anonymization Prefix",
}


@pytest.mark.parametrize("kind", TITLES)
def test_a_node_is_found_by_search_and_added(either_workbench: Workbench, kind: str) -> None:
    either_workbench.add_by_search(TITLES[kind])
    either_workbench.page.wait_for_function("() => window.app.graph.nodes.length === 1")
    (node,) = either_workbench.nodes(kind)
    assert node["inputs"][0]["name"] in ("clip", "model")
