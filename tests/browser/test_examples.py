"""The example workflows in a real browser: no two of their nodes ever lie on each other."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest
import requests

from anonymize_faces.prefix import save_prefix
from anonymize_faces.tests.browser.workbench import PATIENCE, Workbench, load
from anonymize_faces.tests.support.prefixes import demo_prefix, with_random_region
from anonymize_faces.tools.layout import EXTENSION, ROOT

EXAMPLES = {
    path.stem: path
    for path in sorted((ROOT / "example_workflows").glob("*.json"), key=lambda path: int(path.stem.split()[0]))
}
NEEDS_A_CHECKPOINT = "6 Train on your own checkpoint"
"""Is only looked at: nobody has that file here, and its nodes are those of "Train on the demo model"."""

QUICK = {
    "TrainAnonymizationPrefix": {
        "text_steps": 1, "steps": 12, "batch_size": 2, "people_drawn": 4, "portraits_per_identity": 1, "held_out": 0.0,
        "general_drawn": 4, "noisings_per_picture": 1, "drawing_steps": 1,
        "conditional": False, "harden": 0.0, "face_region": False,
    },
    "KSampler": {"steps": 1},
    "EmptyLatentImage": {"batch_size": 2},
    "CompareStrengths": {"steps": 1},
    "EvaluateAnonymization": {"steps": 1, "images_per_name": 1, "images_per_prompt": 1},
    "FineTuneOnCaptions": {"steps": 2, "general_pictures": 2},
    "LearnExperts": {"pictures": 2, "steps": 1, "tuning_steps": 1, "batch_size": 4},
    "MeasureExperts": {"steps": 2, "turns": 1},
    "ProtectPhotos": {"steps": 2},
    "MeasurePhotoProtection": {"steps": 2, "images_per_prompt": 1},
}  # fmt: skip
"""Settings by types of nodes with which a workflow is done in seconds and shows as much."""

HURRY = """([kind, settings]) => {
    for (const node of window.app.graph.nodes.filter((found) => found.type === kind))
        for (const widget of node.widgets) if (widget.name in settings) widget.value = settings[widget.name];
}"""
SHORTEN = """() => {
    for (const node of window.app.graph.nodes.filter((found) => found.type === "IdentityList"))
        node.widgets[0].value = node.widgets[0].value.split("\\n").slice(0, 9).join("\\n");
}"""


@pytest.fixture
def demo_people(workbench: Workbench) -> None:
    """The prefix file that the examples choose."""
    save_prefix(
        with_random_region(demo_prefix()), workbench.server.prefix_folder / "demo people.safetensors", overwrite=True
    )


def look(workbench: Workbench, stage: str) -> dict[str, list[str]]:
    """The nodes that lie on each other, by rendering."""
    found = {}
    for rendering in ("nodes 2.0", "classic"):
        workbench.draw_nodes(vue=rendering != "classic")
        workbench.page.evaluate("() => window.app.canvas.setDirty(true, true)")
        workbench.settle()
        found[f"{stage}, {rendering}"] = workbench.overlaps()
    return found


def ended(workbench: Workbench) -> dict[str, str]:
    """How the prompts ended that the server has run, by their ids."""
    history = requests.get(f"{workbench.server.url}/history", timeout=60).json()
    return {prompt: entry["status"]["status_str"] for prompt, entry in history.items()}


@pytest.mark.slow
@pytest.mark.parametrize("name", EXAMPLES)
def test_nodes_of_an_example_lie_apart_whether_it_waits_runs_or_is_done(
    workbench: Workbench, demo_people: None, name: str
) -> None:
    page = workbench.page
    workbench.open(load(EXAMPLES[name]))
    page.evaluate("() => { window.app.canvas.ds.scale = 0.4; window.app.canvas.ds.offset = [0, 0]; }")
    found: dict[str, Any] = look(workbench, "waiting")
    if name != NEEDS_A_CHECKPOINT:
        for kind, settings in QUICK.items():
            page.evaluate(HURRY, [kind, settings])
        page.evaluate(SHORTEN)
        before = ended(workbench)
        workbench.queue()
        if workbench.nodes("TrainAnonymizationPrefix"):
            panel = page.locator(".anonymize-faces-training")
            panel.locator("img").wait_for(timeout=2 * PATIENCE)
            found |= look(workbench, "running")
        deadline = time.monotonic() + 4 * PATIENCE / 1000
        while not (new := set(ended(workbench)) - set(before)):
            assert time.monotonic() < deadline
            time.sleep(0.5)
        assert [ended(workbench)[prompt] for prompt in new] == ["success"]
        found |= look(workbench, "done")
        if workbench.nodes("DescribeFaces"):
            # Captions have no sign that the host's Markdown, which this node shows in older frontends, would change.
            (preview,) = (node for node in workbench.nodes("PreviewAny"))
            assert re.fullmatch(r"a person( with)?[a-z ,\n]+", workbench.previewed(preview["id"], "a person").strip())
            report = page.locator(".anonymize-faces-report .report").filter(has_text="described in 2 pictures").first
            assert report.evaluate("place => place.children.length") == 0
        if workbench.nodes("LearnExperts"):
            panel = page.locator(".anonymize-faces-training")
            panel.locator(".state").filter(has_text="Done: 4 steps").wait_for()
            panel.locator(".verdict").filter(has_text="Loss: ").wait_for()
            assert panel.get_by_role("button").all_inner_texts() == ["Cancel"]
        workbench.picture(f"example {name}")
    assert {stage: pairs for stage, pairs in found.items() if pairs} == {}


def test_the_template_browser_lists_the_examples_by_their_numbers(workbench: Workbench) -> None:
    page = workbench.tab()
    workbench.ready(page)
    page.evaluate("() => window.app.extensionManager.command.execute('Comfy.BrowseTemplates')")
    dialog = page.get_by_role("dialog")
    dialog.get_by_text(EXTENSION, exact=True).first.click()
    dialog.get_by_text(next(iter(EXAMPLES)), exact=True).first.wait_for()
    shown = dialog.get_by_text(re.compile(r"^\d+ [A-Z]")).all_inner_texts()
    assert list(dict.fromkeys(shown)) == list(EXAMPLES)[: len(shown)] and len(shown) > 1
    page.close()
