"""A run on the demo model, watched in a real browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
import requests
import websocket

from anonymize_faces.prefix import load_prefix
from anonymize_faces.tests.browser.workbench import PATIENCE, Workbench, load
from anonymize_faces.tests.support.training_workflow import PEOPLE, TRAINING
from anonymize_faces.tools.layout import ROOT

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

EXAMPLE = ROOT / "example_workflows" / "1 Train on the demo model.json"
ORDER = (".verdict", "button", "progress", "img", ".chart")
"""What the panel shows, from above: what one decides by, and the buttons for that, never leave the window."""

ENDLESS = {"steps": 100_000, "batch_size": 8}

WIDGETS = (
    "general_prompts vectors steps batch_size learning_rate seed init portraits_per_identity noisings_per_picture width"
    " height drawing_steps drawing_cfg held_out precision gradient_checkpointing text_steps overshoot vary_names preset"
    " people_drawn general_drawn patience conditional harden face_region"
).split()
"""The node's, in their order in a saved workflow."""


def learning(name: str, **settings: Any) -> dict[str, Any]:
    """The example workflow with other people and settings."""
    workflow = load(EXAMPLE)
    nodes = {node["type"]: node for node in workflow["nodes"]}
    values = nodes["TrainAnonymizationPrefix"]["widgets_values"]
    for setting, value in ({"patience": 0} | TRAINING | settings).items():
        values[WIDGETS.index(setting)] = value
    nodes["IdentityList"]["widgets_values"] = [PEOPLE]
    nodes["SaveAnonymizationPrefix"]["widgets_values"][0] = name
    return workflow


def panel(page: Page) -> Locator:
    return page.locator(".anonymize-faces-training")


def wait_for(page: Page, part: str, text: str) -> str:
    """Waits until that part of the panel shows a text, and returns it."""
    found = panel(page).locator(part).filter(has_text=re.compile(text))
    found.wait_for(timeout=2 * PATIENCE)
    return found.inner_text()


@pytest.mark.slow
def test_a_run_is_watched_outlives_a_reload_and_a_second_tab_and_is_kept(workbench: Workbench) -> None:
    page = workbench.page
    workbench.open(learning("kept", **ENDLESS, seed=81))
    workbench.queue()
    wait_for(page, ".state", r"Step \d+ of 100000")
    wait_for(page, ".signal", r"Recognizability left: (< )?\d+%")
    wait_for(page, ".left", r"\d:\d\d left")
    wait_for(page, ".message", r"\d+ people, \d+ pictures to draw, [\d,]+ passes of the model")
    wait_for(page, ".moved", r"Side effects on other prompts: (< )?\d+%")
    wait_for(page, ".verdict", r"[Pp]rotected|recognizable")
    for line in ("recognizability", "effects", "goal"):
        assert "L" in panel(page).locator(f"path.{line}").get_attribute("d")
    for what in (".signal", ".moved", "button"):
        assert panel(page).locator(what).first.get_attribute("title")

    page.reload()
    workbench.ready()
    before = int(re.findall(r"\d+", wait_for(page, ".state", r"Step \d+ of 100000"))[0])
    wait_for(page, ".state", f"Step (?!{before} )")
    picture = panel(page).locator("img")
    picture.wait_for(timeout=2 * PATIENCE)
    assert picture.evaluate("image => image.decode().then(() => [image.naturalWidth, image.naturalHeight])") == [
        128,
        128,
    ]
    assert "Ada Example, Ben Sample" in picture.get_attribute("alt")
    assert panel(page).locator(".people").inner_text().split("\n") == ["Ada Example", "Ben Sample"]
    before_all = "part => part.getBoundingClientRect().top"
    tops = [panel(page).locator(part).first.evaluate(before_all) for part in ORDER]
    assert tops == sorted(tops)
    workbench.look_at("TrainAnonymizationPrefix")
    workbench.picture("training")

    second = workbench.tab()
    workbench.open(learning("kept", **ENDLESS, seed=81), second)
    wait_for(second, ".state", r"Step \d+ of 100000")
    panel(second).get_by_role("button", name="Stop and keep").press("Enter")
    for tab in (page, second):
        wait_for(tab, ".state", r"Stopped and kept at step \d+ of 100000")
        wait_for(tab, ".message", "You stopped it at step")
        assert panel(tab).get_by_role("button").all_inner_texts() == ["Use in this workflow"]
        assert panel(tab).locator(".people").is_visible()
    second.close()
    page.wait_for_function("() => window.app.ui.lastQueueSize === 0")
    assert 5 <= load_prefix(workbench.server.prefix_folder / "kept.safetensors").record.steps < 100_000
    workbench.picture("training-kept")


@pytest.fixture(autouse=True)
def nothing_goes_on(workbench: Workbench) -> Iterator[None]:
    """Ends what a test that failed left running: all others would wait for it."""
    yield
    requests.post(f"{workbench.server.url}/queue", json={"clear": True}, timeout=60)
    workbench.server.interrupt()


def test_a_run_is_cancelled_from_the_node(either_workbench: Workbench, request: pytest.FixtureRequest) -> None:
    page = either_workbench.page
    either_workbench.open(learning("broken off", **ENDLESS, seed=82 + ("2.0" in request.node.name)))
    either_workbench.queue()
    wait_for(page, ".state", r"Step \d+ of 100000")
    either_workbench.look_at("TrainAnonymizationPrefix")
    either_workbench.picture("training-nodes-2" if "2.0" in request.node.name else "training-classic")
    panel(page).get_by_role("button", name="Cancel").click()
    wait_for(page, ".state", "Cancelled")
    assert not (either_workbench.server.prefix_folder / "broken off.safetensors").exists()


def test_a_page_that_the_server_lost_is_found_again_and_gets_its_results(workbench: Workbench) -> None:
    # Where a page connects anew before the server has done with its old connection, the host forgets the new one with
    # the old one: nothing comes any more, and the page stays at the step that it showed last.
    page = workbench.page
    workbench.open(learning("lost", steps=80, batch_size=4, seed=89))
    workbench.queue()
    wait_for(page, ".state", r"Step \d+ of 80")
    client = page.evaluate("() => window.app.api.clientId")
    websocket.create_connection(f"{workbench.server.url.replace('http', 'ws')}/ws?clientId={client}").close()
    wait_for(page, ".state", "Done: 80 steps")
    shown = """() => {
        const node = window.app.graph.nodes.find((found) => found.type === "PreviewImage");
        return window.app.nodeOutputs[node.id]?.images?.length;
    }"""
    page.wait_for_function(shown)
    page.wait_for_function("() => !document.title.includes('%')")
    workbench.picture("found again")


def test_what_was_learned_is_used_in_the_workflow_with_one_click(workbench: Workbench) -> None:
    page = workbench.page
    workbench.open(learning("used", seed=91))
    page.evaluate(
        """() => {
            const { graph } = window.app;
            const prompt = window.LiteGraph.createNode("CLIPTextEncode");
            prompt.pos = [0, 1400];
            graph.add(prompt);
            graph.nodes.find((node) => node.type === "LoadDemoModel").connect(1, prompt, 0);
        }"""
    )
    workbench.queue()
    wait_for(page, ".state", "Done: 3 steps")
    use = panel(page).get_by_role("button", name="Use in this workflow")
    page.wait_for_function("() => window.app.ui.lastQueueSize === 0")
    use.press("Enter")
    page.wait_for_function("() => window.app.graph.nodes.some((node) => node.type === 'AnonymizeFaces')")
    workbench.told("With the prefix used.safetensors.").first.wait_for()
    (node,) = workbench.nodes("AnonymizeFaces")
    assert node["widgets_values"][0] == "used.safetensors"
    workbench.settle()
    workbench.execute("Comfy.Undo")
    page.wait_for_function("() => !window.app.graph.nodes.some((node) => node.type === 'AnonymizeFaces')")


def test_the_panel_says_what_it_is_for_and_keeps_its_height(workbench: Workbench) -> None:
    page = workbench.page
    height = page.evaluate(
        """() => {
            const node = window.LiteGraph.createNode("TrainAnonymizationPrefix");
            window.app.graph.add(node);
            return node.computeSize()[1];
        }"""
    )
    wait_for(page, ".verdict", "watch it learn")
    assert panel(page).get_by_role("button", name="Stop and keep").is_disabled()
    workbench.settle()
    (node,) = workbench.nodes("TrainAnonymizationPrefix")
    assert node["size"][1] == height


def test_the_panel_leaves_no_trace_in_workflow_or_prompt(workbench: Workbench) -> None:
    workflow = learning("traceless", seed=85)
    workbench.open(workflow)
    (saved,) = workbench.nodes("TrainAnonymizationPrefix")
    prompt = workbench.page.evaluate("async () => (await window.app.graphToPrompt()).output")
    (opened,) = (node for node in workflow["nodes"] if node["type"] == "TrainAnonymizationPrefix")
    assert saved["widgets_values"] == opened["widgets_values"]
    (train,) = (node for node in prompt.values() if node["class_type"] == "TrainAnonymizationPrefix")
    assert "training" not in train["inputs"]


def test_without_the_node_on_the_canvas_the_server_is_not_asked(workbench: Workbench) -> None:
    asked: list[str] = []
    listener = lambda sent: asked.append(sent.url) if "anonymize_faces/training" in sent.url else None  # noqa: E731
    page = workbench.page
    page.on("request", listener)
    page.evaluate(
        """() => {
            window.queued = [];
            window.app.api.addEventListener("status", ({ detail }) => queued.push(detail.exec_info.queue_remaining));
        }"""
    )
    image = {"width": 64, "height": 64, "batch_size": 1, "color": 7}
    workbench.server.run(
        {
            "1": {"class_type": "EmptyImage", "inputs": image},
            "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
        }
    )
    # Ours was told first, and would have asked by now.
    page.wait_for_function("() => window.queued.some((left) => left > 0) && window.queued.at(-1) === 0")
    page.remove_listener("request", listener)
    assert [url for url in asked if not url.endswith("/leave")] == []
